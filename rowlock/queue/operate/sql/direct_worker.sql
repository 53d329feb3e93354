-- Say whether a live worker takes jobs: `running`, `quiet` or `stopping`, from which there is no way back. It reads that
-- within a second, or when it is notified.
--
-- $1 the worker   $2 its state from now on. Returns what it was `before`; no row if no live worker has this id.
-- Index: worker_pkey. Locks: its row.
UPDATE rowlock.worker AS w
   SET state = CASE before.state WHEN 'stopping' THEN 'stopping' ELSE $2::text END
  FROM (
       SELECT id, state FROM rowlock.worker WHERE id = $1::uuid AND expires_at > clock_timestamp() FOR UPDATE
       ) AS before
 WHERE w.id = before.id
RETURNING before.state AS before
