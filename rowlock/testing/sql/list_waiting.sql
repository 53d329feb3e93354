-- The jobs that wait, in the order of their ids, which is that of their enqueues; as a caller's transaction sees them.
--
-- Without parameters, and with types that every driver reads the same way: the names of the columns do not count, their
-- order does. A look at the whole table, which a test's is small enough for. Locks: none.
SELECT id, state, queue, task, priority, args_version, args::text, attempt, max_attempts, errors, crashes, unique_key,
       error, created_at, run_at, expires_at, deadline, {{job_marks}}
  FROM rowlock.jobs
 WHERE state IN ('blocked', 'queued', 'scheduled', 'retrying')
 ORDER BY id
