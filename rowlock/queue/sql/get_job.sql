-- One job, live or finished. $1 the id. Index: job_pkey, and finished_job_id of each partition.
SELECT id, state, queue, task, priority, args, attempt, max_attempts, errors, crashes, unique_key, timeout, result, error,
       created_at, run_at, started_at, finished_at, worker, expires_at, deadline, cancel_requested_at, discarded_at
  FROM rowlock.jobs
 WHERE id = $1::uuid
