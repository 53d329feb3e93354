-- Audit the rows of progress, newest jobs first: the job of each exists, and its attempt is not later than the job's. One row
-- an invariant.
--
-- $1 how many rows to check   $2 how many examples   $3 since when retention has removed no job; null: always
--
-- Index: progress_pkey, job_pkey, finished_job_id of each partition. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT job_id, attempt, updated_at,
           coalesce(
               (SELECT job.attempt FROM rowlock.job WHERE job.id = progress.job_id),
               (SELECT max(job.attempt) FROM rowlock.find_job(progress.job_id) AS job)
           ) AS newest
      FROM rowlock.progress
     WHERE coalesce(updated_at >= $3::timestamptz, true)
     ORDER BY job_id DESC
     LIMIT $1::integer
), broken AS (
    SELECT 'progress of no job' AS invariant, format('attempt %s of job %s, which is nowhere', attempt, job_id) AS example
      FROM looked
     WHERE newest IS NULL
     UNION ALL
    SELECT 'progress above its job''s', format('attempt %s of job %s, whose last one is %s', attempt, job_id, newest)
      FROM looked
     WHERE attempt > newest
)
SELECT named.invariant, count(broken.example) AS broken, (SELECT count(*) FROM looked) AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$2::integer], '{}') AS examples
  FROM unnest(ARRAY['progress of no job', 'progress above its job''s']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
