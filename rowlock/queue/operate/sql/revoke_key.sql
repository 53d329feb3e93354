-- Revoke a key, and end its sessions. $1 its id, or null   $2 its name, or null.
-- Returns no row if no such key exists, or if it is revoked already.
--
-- Index: api_key_pkey or api_key_name; api_session_key_id. Locks: the rows of the key and its sessions.
WITH revoked AS (
    UPDATE rowlock.api_key
       SET revoked_at = clock_timestamp()
     WHERE (id = $1::uuid OR name = $2::text) AND revoked_at IS NULL
    RETURNING id, name, scopes, queues, created_at, created_by, expires_at, revoked_at, last_used_at
), ended AS (
    DELETE FROM rowlock.api_session USING revoked WHERE key_id = revoked.id
)
SELECT id, name, scopes, queues, created_at, created_by, expires_at, revoked_at, last_used_at, false AS is_active FROM revoked
