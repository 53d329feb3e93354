-- The running jobs of one worker that somebody wants cancelled. $1 the worker.
-- Index: job_cancel, which holds these alone: next to nothing to read when nobody cancels anything.
SELECT id, attempt, cancel_reason
  FROM rowlock.job
 WHERE worker = $1::uuid
   AND cancel_requested_at IS NOT NULL
