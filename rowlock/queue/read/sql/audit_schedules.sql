-- Audit the schedules: none is left behind while a worker that fires it lives, and the last job of each exists. One row
-- an invariant.
--
-- $1 how many schedules to check   $2 how long a tick may be overdue interval   $3 how many examples
-- $4 since when retention has removed no job; null: always
--
-- Left behind: a worker that knows the task, in any version of its arguments, has lived for at least $2 (ticker.py fires by
-- the task alone), and the schedule was last edited, resumed or declared before that. With misfire 'all', missed ticks fire
-- round by round, which may take long: such a schedule is left behind if it has fired nothing for $2; it is not checked if it
-- skips ticks while its last job runs. The duty 'overdue' must have run since the tick was late: otherwise no worker has had
-- time since the database came back, or since its clock was put forward.
-- Last job: it was created at the last tick or later. So it exists if retention has removed no job since, unless an operator
-- deleted it: then `operation` has a row.
-- Reads rowlock.schedule and rowlock.worker, which are small. Index: job_pkey, finished_job_id of each partition;
-- operation_target for those that are missing. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT name, task, misfire, overlap, is_paused, next_run_at, last_tick_at, last_job_id, updated_at,
           last_job_id IS NOT NULL AND ($4::timestamptz IS NULL OR coalesce(last_tick_at >= $4::timestamptz, false)) AS is_kept
      FROM rowlock.schedule
     ORDER BY name
     LIMIT $1::integer
), broken AS (
    SELECT 'schedule left behind' AS invariant, format('%s was due at %s', name, next_run_at) AS example
      FROM looked
     WHERE NOT is_paused
       AND (
           misfire <> 'all'
           OR overlap = 'allow' AND coalesce((
               SELECT fired_at FROM rowlock.schedule_tick WHERE schedule = looked.name ORDER BY tick_at DESC LIMIT 1
           ) < now() - $2::interval, true)
       )
       AND updated_at < now() - $2::interval
       AND next_run_at + $2::interval < (SELECT least(set_at, now()) FROM rowlock.duty WHERE duty.name = 'overdue')
       AND EXISTS (
           SELECT FROM rowlock.worker
            WHERE worker.expires_at > now()
              AND worker.started_at < now() - $2::interval
              AND looked.task = ANY(ARRAY(SELECT split_part(known, '@', 1) FROM unnest(worker.tasks) AS known))
       )
     UNION ALL
    SELECT 'schedule whose last job is nowhere', format('the last job of %s is %s, which is nowhere', name, last_job_id)
      FROM looked
     WHERE is_kept
       AND (SELECT job.id FROM rowlock.job WHERE job.id = looked.last_job_id) IS NULL
       AND (SELECT max(job.attempt) FROM rowlock.find_job(looked.last_job_id) AS job) IS NULL
       AND (
           SELECT max(at) FROM rowlock.operation
            WHERE target = looked.last_job_id::text AND target_kind = 'job' AND verb = 'delete'
           ) IS NULL
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE is_kept OR named.invariant = 'schedule left behind') AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$3::integer], '{}') AS examples
  FROM unnest(ARRAY['schedule left behind', 'schedule whose last job is nowhere']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
