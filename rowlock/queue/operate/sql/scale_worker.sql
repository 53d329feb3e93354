-- Set how many jobs a live worker runs at once. The worker reads it within a second, or when it is notified.
--
-- $1 the worker   $2 the limit. Returns the limit `before`; no row if no live worker has this id.
-- Index: worker_pkey. Locks: its row.
UPDATE rowlock.worker AS w
   SET concurrency = $2::integer
  FROM (
       SELECT id, concurrency
         FROM rowlock.worker
        WHERE id = $1::uuid AND expires_at > clock_timestamp() AND followed_by IS NULL
          FOR UPDATE
       ) AS before
 WHERE w.id = before.id
RETURNING before.concurrency AS before
