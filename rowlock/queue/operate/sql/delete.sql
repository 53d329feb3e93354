-- Delete a finished job for good, with its progress, its checkpoint, and the unique key that it still holds. Run it in the
-- transaction of lock_finished.sql, delete_attempts.sql, delete_logs.sql and record_operation.sql.
--
-- $1 the job   $2 when it ended timestamptz[]: run it under force_custom_plan, so that other partitions are not locked
--
-- Returns a row if the job existed: its task, queue and state. Index: finished_job_id of each of these partitions, unique_key_pkey,
-- progress_pkey. Locks: the rows that it deletes.
WITH gone AS (
    DELETE FROM rowlock.finished_job
     WHERE id = $1::uuid AND finished_at = ANY($2::timestamptz[])
    RETURNING id, task, queue, state, unique_key
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
       AND job_id = $1::uuid
), forgotten AS (
    DELETE FROM rowlock.progress WHERE job_id = ANY(ARRAY(SELECT gone.id FROM gone))
)
SELECT task, queue, state FROM gone
