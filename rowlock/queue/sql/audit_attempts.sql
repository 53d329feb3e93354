-- Audit the recorded attempts of a part of the archive: each is of a job that exists, has no higher number than its job, and
-- is recorded once. One row an invariant.
--
-- $1 from when, $2 until when   $3 from when on a second row of an attempt is looked for   $4 how many rows to look at
-- $5 how many examples   $6 from when on retention has removed no job; null: always
--
-- Index: attempt_finished_at (BRIN); per row job_pkey, and finished_job_id and attempt_job_id of each partition since then.
-- Run it where the planner does without sequential scans. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT job_id, attempt, outcome, finished_at,
           coalesce(
               (SELECT job.attempt FROM rowlock.job WHERE job.id = attempt.job_id),
               (
                   SELECT max(finished_job.attempt) FROM rowlock.finished_job
                    WHERE finished_job.id = attempt.job_id
                      AND finished_job.finished_at >= $1::timestamptz - interval '1 day'
               )
           ) AS newest,
           (
               SELECT count(*) FROM rowlock.attempt AS other
                WHERE other.job_id = attempt.job_id AND other.attempt = attempt.attempt
                  AND other.finished_at >= $3::timestamptz
           ) AS copies,
           coalesce(finished_at >= $6::timestamptz, true) AS is_kept
      FROM rowlock.attempt
     WHERE finished_at >= $1::timestamptz AND finished_at < $2::timestamptz
     LIMIT $4::integer
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
    SELECT 'attempt from the future', format('attempt %s of job %s ended at %s', attempt, job_id, finished_at)
      FROM looked
     WHERE finished_at > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE is_kept OR named.invariant <> 'attempt of no job') AS looked_at,
       (SELECT count(*) >= $4::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$5::integer], '{}') AS examples
  FROM unnest(ARRAY['attempt of no job', 'attempt above its job''s', 'attempt recorded twice', 'attempt from the future'])
       AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
