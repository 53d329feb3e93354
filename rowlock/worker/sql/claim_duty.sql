-- Claim a due duty. $1 the duties that this worker can do text[]: a newer release may have added others.
-- Returns its name, or no row. If the worker dies in the middle, the duty falls due again at its next time.
-- A duty whose set_at lies in the future is due as well: the server's clock has gone back since.
-- Locks: the duty's row, skipping rows that other sessions have locked.
UPDATE rowlock.duty
   SET next_run_at = clock_timestamp() + every, set_at = clock_timestamp()
 WHERE name = (
       SELECT name FROM rowlock.duty
        WHERE (next_run_at <= now() OR set_at > clock_timestamp()) AND name = ANY($1::text[])  -- seam: due duty
        ORDER BY next_run_at LIMIT 1 FOR UPDATE SKIP LOCKED
       )
RETURNING name
