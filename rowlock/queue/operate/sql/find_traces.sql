-- When the attempts of a job were recorded, and when what they logged was: in which partitions they are. $1 the job. One row.
--
-- Index: attempt_job_id and attempt_log_job_id of a bounded number of partitions at a time.
SELECT ARRAY(SELECT DISTINCT told.finished_at FROM rowlock.attempts_of($1::uuid) AS told) AS attempts,
       ARRAY(SELECT DISTINCT told.created_at FROM rowlock.logs_of($1::uuid) AS told) AS logs
