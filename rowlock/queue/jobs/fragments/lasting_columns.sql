-- The columns that never change, whatever happens to a job, also when it is put back.
created_at, timeout, max_attempts, priority, queue, task, unique_key, {{job_marks}}, trace
