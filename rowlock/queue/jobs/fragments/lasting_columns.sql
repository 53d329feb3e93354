-- The columns that stay as they are whatever becomes of a job, also when it is put back.
created_at, timeout, max_attempts, priority, queue, task, unique_key, {{job_marks}}, trace
