-- The times at which the attempts of a job and their log lines were recorded, which name their partitions. $1 the job. One row.
--
-- Index: attempt_job_id and attempt_log_job_id of a bounded number of partitions at a time.
SELECT ARRAY(SELECT DISTINCT told.finished_at FROM rowlock.attempts_of($1::uuid) AS told) AS attempts,
       ARRAY(SELECT DISTINCT told.created_at FROM rowlock.logs_of($1::uuid) AS told) AS logs
