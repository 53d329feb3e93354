-- The lines that the attempts of one job have logged, attempt by attempt. $1 the job. Index: attempt_log_job_id.
SELECT attempt, started_at, lines FROM rowlock.logs_of($1::uuid) ORDER BY attempt, created_at
