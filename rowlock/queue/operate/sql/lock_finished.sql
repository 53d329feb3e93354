-- Lock the finished jobs to put back, before their unique keys are claimed: other acts on them wait, and of two retries of
-- the same job only one succeeds. Skips a job whose id was enqueued again and is live.
--
-- $1 ids uuid[]   $2 when they ended timestamptz[]: run it under force_custom_plan, so that other partitions are not locked
-- Index: finished_job_id of each of these partitions. Locks: the rows, in the order of their ids.
SELECT id, finished_at, state, task, unique_key
  FROM rowlock.finished_job
 WHERE id = ANY($1::uuid[]) AND finished_at = ANY($2::timestamptz[])
   AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = finished_job.id)
 ORDER BY id
   FOR UPDATE OF finished_job
