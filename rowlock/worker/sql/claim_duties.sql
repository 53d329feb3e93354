-- Claim due duties. $1 the duties that this worker is to look for text[]: a newer release may have added others.
-- Returns their names. If the worker dies in the middle, a duty falls due again at its next time.
-- A duty whose set_at lies in the future is due as well: the server's clock has gone back since.
-- Locks: the duties' rows, skipping rows that other sessions have locked.
UPDATE rowlock.duty
   SET next_run_at = clock_timestamp() + every, set_at = clock_timestamp()
 WHERE name = ANY(ARRAY(
       SELECT name FROM rowlock.duty
        WHERE (next_run_at <= now() OR set_at > clock_timestamp()) AND name = ANY($1::text[])  -- seam: due duty
        ORDER BY next_run_at FOR UPDATE SKIP LOCKED
       ))
RETURNING name
