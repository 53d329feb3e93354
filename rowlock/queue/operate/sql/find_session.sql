-- The key behind a session, if both are valid; `expires_at` is the session's. $1 the hash of its cookie.
--
-- Index: api_session_pkey, api_key_pkey. Locks: none.
SELECT key.id, key.name, key.scopes, key.queues, session.expires_at,
       coalesce(key.last_used_at < now() - interval '1 minute', true) AS is_unmarked
  FROM rowlock.api_session AS session
  JOIN rowlock.api_key AS key ON key.id = session.key_id
 WHERE session.hash = $1::bytea AND session.expires_at > now()
   AND key.revoked_at IS NULL AND coalesce(key.expires_at > now(), true)
