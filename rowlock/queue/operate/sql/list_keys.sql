-- The API keys, newest first, including those that ended recently. Never the hashes.
SELECT id, name, scopes, queues, created_at, created_by, expires_at, revoked_at, last_used_at,
       (revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS is_active
  FROM rowlock.api_key
 ORDER BY id DESC
