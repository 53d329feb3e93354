-- Audit a part of the archive: each job in it exists once and is not live, its columns agree, the attempt by which a job failed
-- is recorded, and no time is ahead of the clock. One row an invariant.
--
-- $1 from when, $2 until when   $3 from when to search for a second row of a job   $4 how many rows to check
-- $5 how many examples   $6 since when retention has removed nothing; null: always
--
-- A job fails by an attempt, which counts as an error or a crash, and the same statement records it at the same time; or,
-- while it waits, by its deadline (end_overdue.sql), without a worker, and with the deadline as its error. A job expires while
-- it waits, before its first start. Retention removes attempts later than their jobs. While it rewrites their partition, an
-- older snapshot sees none of them for a moment: so it searches only for attempts younger than $6.
-- Index: finished_job_finished_at (BRIN); per row job_pkey, and finished_job_id of each partition since $3; attempt_job_id for
-- those that failed. Run it with sequential scans off: the planner may still believe that a partition is empty.
-- Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT id, state, attempt, errors, crashes, worker, error, created_at, started_at, finished_at, discarded_at
      FROM rowlock.finished_job
     WHERE finished_at >= $1::timestamptz AND finished_at < $2::timestamptz
     LIMIT $4::integer
), pair AS (
    SELECT id, state, finished_at, (SELECT job.state FROM rowlock.job WHERE job.id = looked.id) AS live,
           (
               SELECT count(*) FROM rowlock.finished_job AS other
                WHERE other.id = looked.id AND other.finished_at >= $3::timestamptz
           ) AS copies
      FROM looked
), contradiction AS (
    SELECT id, concat_ws(
               ', ',
               CASE WHEN state = 'succeeded' AND (worker IS NULL OR started_at IS NULL OR attempt < 1)
                    THEN format('succeeded with worker %s, started_at %s, attempt %s', worker, started_at, attempt) END,
               CASE WHEN errors::bigint + crashes > attempt
                    THEN format('%s errors and %s crashes in %s attempts', errors, crashes, attempt) END,
               CASE WHEN state = 'expired' AND (worker IS NOT NULL OR started_at IS NOT NULL)
                    THEN format('expired with worker %s, started_at %s', worker, started_at) END,
               CASE WHEN state = 'failed' AND worker IS NOT NULL AND errors + crashes < 1
                    THEN 'failed with 0 errors and 0 crashes' END,
               CASE WHEN state = 'failed' AND worker IS NULL
                         AND coalesce(error, '') NOT LIKE 'its deadline passed at %'
                    THEN format('failed without a worker or a passed deadline: %s', left(error, 100)) END,
               CASE WHEN discarded_at IS NOT NULL AND state <> 'failed' THEN format('%s and discarded', state) END,
               CASE WHEN greatest(created_at, started_at) > finished_at + interval '1 minute'
                    THEN format('finished at %s, before %s', finished_at, greatest(created_at, started_at)) END
           ) AS what
      FROM looked
), attempted AS (
    SELECT id, attempt, finished_at
      FROM looked
     WHERE state = 'failed' AND worker IS NOT NULL AND coalesce(finished_at >= $6::timestamptz, true)
), broken AS (
    SELECT 'job in both tables' AS invariant, format('job %s is %s, and %s at %s', id, live, state, finished_at) AS example
      FROM pair
     WHERE live IS NOT NULL
     UNION ALL
    SELECT 'job archived twice', format('job %s has %s rows, one of them %s at %s', id, copies, state, finished_at)
      FROM pair
     WHERE copies > 1
     UNION ALL
    SELECT 'finished job whose columns disagree', format('job %s: %s', id, what)
      FROM contradiction
     WHERE what <> ''
     UNION ALL
    SELECT 'failed job without its last attempt',
           format('job %s failed by attempt %s at %s, which is recorded nowhere', id, attempt, finished_at)
      FROM attempted
     WHERE NOT EXISTS (
               SELECT FROM rowlock.attempt
                WHERE attempt.job_id = attempted.id
                  AND attempt.attempt = attempted.attempt
                  AND attempt.finished_at >= attempted.finished_at - interval '1 minute'
                  AND attempt.finished_at <= attempted.finished_at + interval '1 minute'
                OFFSET 0
           )
     UNION ALL
    SELECT 'finished job from the future', format('job %s: written at %s', id, greatest(finished_at, discarded_at))
      FROM looked
     WHERE greatest(finished_at, discarded_at) > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken,
       CASE named.invariant WHEN 'failed job without its last attempt' THEN (SELECT count(*) FROM attempted)
            ELSE (SELECT count(*) FROM looked) END AS looked_at,
       (SELECT count(*) >= $4::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$5::integer], '{}') AS examples
  FROM unnest(ARRAY['job in both tables', 'job archived twice', 'finished job whose columns disagree',
                    'failed job without its last attempt', 'finished job from the future']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
