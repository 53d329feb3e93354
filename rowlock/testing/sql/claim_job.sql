-- Claim one waiting job, due or not, for one attempt: queued → running. $1 its id   $2 the worker
--
-- Returns it as claim.sql does; no row if it does not wait, or may not start another attempt.
-- Index: job_pkey. Locks: the job's row.
WITH claimed AS (
    UPDATE rowlock.job
       SET state = 'running', attempt = least(attempt, 2147483646) + 1, worker = $2, started_at = now()
     WHERE id = $1
       AND state = 'queued'
       AND (ends_at IS NULL OR ends_at > now())
    RETURNING {{claimed_columns}},
              CASE WHEN ends_at IS NOT NULL THEN ARRAY[ends_at, expires_at, deadline, started_at] END AS times
), held AS (
    INSERT INTO rowlock.holding AS known (worker, number, ids) SELECT $2, 0, ARRAY[id] FROM claimed
    ON CONFLICT ON CONSTRAINT holding_pkey DO UPDATE SET ids = known.ids || excluded.ids
)
SELECT {{claimed_columns}}, times, NULL::bigint AS number FROM claimed
