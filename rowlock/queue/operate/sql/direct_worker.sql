-- Set the state of a live worker: `running`, `quiet` or `stopping`, which is final. The worker reads it within a second, or
-- when it is notified.
--
-- $1 the worker   $2 its state from now on. Returns the state `before`; no row if no live worker has this id.
-- Index: worker_pkey. Locks: its row.
UPDATE rowlock.worker AS w
   SET state = CASE before.state WHEN 'stopping' THEN 'stopping' ELSE $2::text END
  FROM (
       SELECT id, state
         FROM rowlock.worker
        WHERE id = $1::uuid AND expires_at > clock_timestamp() AND followed_by IS NULL
          FOR UPDATE
       ) AS before
 WHERE w.id = before.id
RETURNING before.state AS before
