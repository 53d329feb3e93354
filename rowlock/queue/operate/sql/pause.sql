-- Pause a queue: a claim that begins after the commit claims none of its jobs.
--
-- $1 the queue. Returns the time of the pause; no row if it was paused already. Index: queue_pkey. Locks: its row.
INSERT INTO rowlock.queue AS q (name, paused_at)
VALUES ($1::text, clock_timestamp())
ON CONFLICT (name) DO UPDATE
   SET paused_at = EXCLUDED.paused_at, updated_at = clock_timestamp()
 WHERE q.paused_at IS NULL
RETURNING paused_at
