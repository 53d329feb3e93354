-- List the waiting jobs in the order of their ids, that of their enqueues, as a caller's transaction sees them.
--
-- Without parameters, and with types that every driver reads the same way; the order of the columns matters, not their
-- names. Scans the whole table: a test's table is small. Locks: none.
SELECT id, state, queue, task, priority, args_version, args::text, attempt, max_attempts, errors, crashes, unique_key,
       error, created_at, run_at, expires_at, deadline, {{job_marks}}
  FROM rowlock.jobs
 WHERE state IN ('blocked', 'queued', 'scheduled', 'retrying')
 ORDER BY id
