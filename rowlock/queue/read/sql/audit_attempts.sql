-- Audit the recorded attempts of a part of the archive: the job of each exists and has no lower number, the attempt is
-- recorded once, and it agrees with its job. One row an invariant.
--
-- $1 from when, $2 until when   $3 from when to search for a second row of an attempt   $4 how many rows to check
-- $5 how many examples   $6 since when retention has removed no job; null: always
-- $7 the earliest end of their jobs: a parameter, so that earlier partitions are not locked
--
-- A recorded attempt did not succeed, and is over: the next one has a higher number. So its job neither succeeded by it nor
-- runs it. If a job ended by an attempt (then it has a worker), one statement wrote the job and the attempt, with the same
-- worker. Only an enqueue with on_duplicate 'replace' changes a job's task, and only for jobs with a key: their tasks are not
-- compared. Queues are never compared, because a reschedule may change them. audit_archive.sql checks jobs with two rows.
-- Index: attempt_finished_at (BRIN); per row job_pkey, and finished_job_id and attempt_job_id of each partition since then.
-- Run it with sequential scans off. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT attempt.job_id, attempt.attempt, attempt.outcome, attempt.finished_at, attempt.task, attempt.worker,
           job.attempt AS newest, job.state, job.task AS job_task, job.worker AS job_worker,
           job.unique_key,
           (
               SELECT count(*) FROM rowlock.attempt AS other
                WHERE other.job_id = attempt.job_id AND other.attempt = attempt.attempt
                  AND other.finished_at >= $3::timestamptz
           ) AS copies,
           coalesce(finished_at >= $6::timestamptz, true) AS is_kept
      FROM (
           SELECT job_id, attempt, outcome, finished_at, task, worker
             FROM rowlock.attempt
            WHERE finished_at >= $1::timestamptz AND finished_at < $2::timestamptz
            LIMIT $4::integer
           ) AS attempt
      LEFT JOIN LATERAL (
           (
           SELECT live.attempt, live.state, live.task, live.worker, live.unique_key
             FROM rowlock.job AS live
            WHERE live.id = attempt.job_id
           )
            UNION ALL
           (
           SELECT ended.attempt, ended.state, ended.task, ended.worker, ended.unique_key
             FROM rowlock.finished_job AS ended
            WHERE ended.id = attempt.job_id
              AND ended.finished_at >= $7::timestamptz
            ORDER BY ended.attempt DESC
            LIMIT 1
           )
            LIMIT 1
           ) AS job ON true
), broken AS (
    SELECT 'attempt of no job' AS invariant,
           format('attempt %s (%s) of job %s, which is nowhere', attempt, outcome, job_id) AS example
      FROM looked
     WHERE newest IS NULL AND is_kept
     UNION ALL
    SELECT 'attempt above its job''s', format('attempt %s of job %s, whose last one is %s', attempt, job_id, newest)
      FROM looked
     WHERE attempt > newest
     UNION ALL
    SELECT 'attempt recorded twice', format('attempt %s of job %s has %s rows', attempt, job_id, copies)
      FROM looked
     WHERE copies > 1
     UNION ALL
    SELECT 'attempt that its job contradicts', format('attempt %s (%s) of job %s: %s', attempt, outcome, job_id, what)
      FROM (
           SELECT job_id, attempt, outcome, concat_ws(
                      ', ',
                      CASE WHEN attempt = newest AND state = 'succeeded' THEN 'its job succeeded by it' END,
                      CASE WHEN attempt = newest AND state = 'running' THEN 'its job still runs it' END,
                      CASE WHEN attempt = newest AND state IN ('failed', 'cancelled') AND worker <> job_worker
                           THEN format('on worker %s, and its job ended on %s', worker, job_worker) END,
                      CASE WHEN unique_key IS NULL AND task <> job_task
                           THEN format('of %s, and its job is of %s', task, job_task) END
                  ) AS what
             FROM looked
           ) AS contradiction
     WHERE what <> ''
     UNION ALL
    SELECT 'attempt from the future', format('attempt %s of job %s ended at %s', attempt, job_id, finished_at)
      FROM looked
     WHERE finished_at > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE is_kept OR named.invariant <> 'attempt of no job') AS looked_at,
       (SELECT count(*) >= $4::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$5::integer], '{}') AS examples
  FROM unnest(ARRAY['attempt of no job', 'attempt above its job''s', 'attempt recorded twice',
                    'attempt that its job contradicts', 'attempt from the future']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
