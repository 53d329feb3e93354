-- The columns of a job that never change, not even when the job is put back.
created_at, timeout, max_attempts, priority, queue, task, unique_key, {{job_marks}}, trace
