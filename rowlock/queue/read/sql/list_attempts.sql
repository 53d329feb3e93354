-- The attempts of one job that did not simply succeed, in their order. $1 the job's id. Index: attempt_job_id.
SELECT job_id, attempt, outcome, queue, task, worker, started_at, finished_at, error_type, message, traceback
  FROM rowlock.attempts_of($1::uuid)
 ORDER BY attempt
