-- Store an API key. Returns no row if another key with this name exists and is not revoked.
--
-- $1 name   $2 hash   $3 scopes   $4 queues, or null for all   $5 its lifetime, or null   $6 by whom
-- Index: api_key_name. Locks: the new row.
INSERT INTO rowlock.api_key (name, hash, scopes, queues, expires_at, created_by)
VALUES ($1::text, $2::bytea, $3::text[], $4::text[], now() + $5::interval, $6::text)
ON CONFLICT (name) WHERE revoked_at IS NULL DO NOTHING
RETURNING id, name, scopes, queues, created_at, created_by, expires_at, revoked_at, last_used_at,
          (revoked_at IS NULL AND coalesce(expires_at > now(), true)) AS is_active
