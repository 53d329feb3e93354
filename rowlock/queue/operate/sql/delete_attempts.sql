-- Delete the recorded attempts of a job that is deleted for good. Run it in the transaction of delete.sql.
--
-- $1 the job   $2 when they ended timestamptz[], from find_traces.sql: run it under force_custom_plan, so that other
-- partitions are not locked
-- Index: attempt_job_id of each of these partitions. Locks: the rows that it deletes.
DELETE FROM rowlock.attempt WHERE job_id = $1::uuid AND finished_at = ANY($2::timestamptz[])
