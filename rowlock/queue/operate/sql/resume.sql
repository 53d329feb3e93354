-- Resume a paused queue: workers claim its jobs again.
--
-- $1 the queue. Returns since when it was paused; no row if it was not. Index: queue_pkey. Locks: its row.
UPDATE rowlock.queue AS q
   SET paused_at = NULL, updated_at = clock_timestamp()
  FROM (SELECT name, paused_at FROM rowlock.queue WHERE name = $1::text AND paused_at IS NOT NULL FOR UPDATE) AS before
 WHERE q.name = before.name
RETURNING before.paused_at
