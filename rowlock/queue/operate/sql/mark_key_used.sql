-- Record the use of a key, at most once a minute. $1 its id.
-- Index: api_key_pkey. Locks: its row, skipping it if another session has locked it.
UPDATE rowlock.api_key SET last_used_at = now()
 WHERE id = (
           SELECT id FROM rowlock.api_key
            WHERE id = $1::uuid AND coalesce(last_used_at < now() - interval '1 minute', true)
              FOR NO KEY UPDATE SKIP LOCKED
       )
