-- The key with this hash, if it is valid. $1 the hash. Runs for every request of a program: 0.004 ms on the server.
--
-- `is_unmarked`: whether to record its use now. Index: api_key_hash. Locks: none.
SELECT id, name, scopes, queues, expires_at,
       coalesce(last_used_at < now() - interval '1 minute', true) AS is_unmarked
  FROM rowlock.api_key
 WHERE hash = $1::bytea AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
