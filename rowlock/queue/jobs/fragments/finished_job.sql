-- A row of rowlock.finished_job with the columns that users see, as in the view `jobs`, and with its result at any age.
id, created_at, args, result, state, queue, task, priority, args_version, attempt, max_attempts, errors, crashes,
unique_key, timeout, error, run_at, started_at, finished_at, worker, NULL::timestamptz AS expires_at,
NULL::timestamptz AS deadline, NULL::timestamptz AS cancel_requested_at, discarded_at, {{job_marks}}
