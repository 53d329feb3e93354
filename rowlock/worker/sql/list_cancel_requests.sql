-- The running jobs of one worker whose cancel is requested. $1 the worker.
-- Index: job_cancel, which contains only the jobs of all workers whose cancel is requested: usually none.
SELECT id, attempt, cancel_reason
  FROM rowlock.job
 WHERE worker = $1::uuid
   AND cancel_requested_at IS NOT NULL
