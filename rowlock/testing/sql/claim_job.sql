-- Claim one waiting job, due or not, for one attempt: queued → running. $1 its id   $2 the worker
--
-- Returns it as claim.sql does; no row if it does not wait, or may not start another attempt.
-- Index: job_pkey. Locks: the job's row.
UPDATE rowlock.job
   SET state = 'running', attempt = least(attempt, 2147483646) + 1, worker = $2, started_at = now()
 WHERE id = $1
   AND state = 'queued'
   AND worker IS NULL
   AND (ends_at IS NULL OR ends_at > now())
RETURNING {{claimed_columns}},
          CASE WHEN ends_at IS NOT NULL THEN ARRAY[ends_at, expires_at, deadline, started_at] END AS times
