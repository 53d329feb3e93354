-- The columns of a job, live or finished, that a list shows, besides id, created_at, args and result.
state, queue, task, priority, args_version, attempt, max_attempts, errors, crashes, unique_key, timeout, error, run_at,
started_at, finished_at, worker, expires_at, deadline, cancel_requested_at, discarded_at, {{job_marks}}
