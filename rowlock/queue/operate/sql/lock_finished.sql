-- Take the finished jobs that are to be put back, before their unique keys are taken: what others do to them waits, and
-- two who retry the same job cannot both do it. One whose id was enqueued again, and is live, is left out.
--
-- $1 ids uuid[]   $2 when they ended timestamptz[]: run it under force_custom_plan, so that other partitions are not locked
-- Index: finished_job_id of each of these partitions. Locks: the rows, in the order of their ids.
SELECT id, finished_at, state, task, unique_key
  FROM rowlock.finished_job
 WHERE id = ANY($1::uuid[]) AND finished_at = ANY($2::timestamptz[])
   AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = finished_job.id)
 ORDER BY id
   FOR UPDATE OF finished_job
