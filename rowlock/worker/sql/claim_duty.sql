-- Claim a duty that is due. $1 the names of those that this worker can do text[]: a newer release may have added others.
-- Returns its name, or no row. Whoever dies in the middle of one has lost it until the next time.
-- A duty that was set in the future is due as well: the server's clock has gone back since.
-- Locks: the duty's row, skipping what others hold.
UPDATE rowlock.duty
   SET next_run_at = clock_timestamp() + every, set_at = clock_timestamp()
 WHERE name = (
       SELECT name FROM rowlock.duty
        WHERE (next_run_at <= now() OR set_at > clock_timestamp()) AND name = ANY($1::text[])  -- seam: due duty
        ORDER BY next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED
       )
RETURNING name
