-- The columns of a job that its handler receives.
id, task, args_version, queue, priority, run_at, created_at, attempt, max_attempts, errors, crashes, timeout, args,
{{job_marks}}, trace
