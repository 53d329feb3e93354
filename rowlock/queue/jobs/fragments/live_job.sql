-- A row of rowlock.job with the columns that users see, as in the view `jobs`.
id, created_at, args, NULL::jsonb AS result,
CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
     WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
     ELSE state
END AS state,
queue, task, priority, args_version, attempt, max_attempts, errors, crashes, unique_key, timeout, error,
coalesce(due_at, run_at) AS run_at, started_at, NULL::timestamptz AS finished_at, worker, expires_at, deadline, cancel_requested_at,
NULL::timestamptz AS discarded_at, {{job_marks}}
