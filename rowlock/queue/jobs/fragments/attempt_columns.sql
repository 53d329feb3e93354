-- The columns of a recorded attempt.
job_id, attempt, outcome, queue, task, worker, started_at, finished_at, error_type, message, traceback
