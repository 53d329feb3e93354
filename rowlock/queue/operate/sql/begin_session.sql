-- Begin a session with a key: no row if the key is invalid. $1 the key's hash   $2 the hash of the new cookie   $3 the longest lifetime
--
-- Revoking the key meanwhile also ends the session, because each look-up of a session checks its key. Index: api_key_hash.
-- Locks: the new row, and its key against removal.
WITH given AS (
    SELECT id, name, scopes, queues, expires_at
      FROM rowlock.api_key
     WHERE hash = $1::bytea AND revoked_at IS NULL AND coalesce(expires_at > now(), true)
), begun AS (
    INSERT INTO rowlock.api_session (hash, key_id, expires_at)
    SELECT $2::bytea, id, least(expires_at, now() + $3::interval) FROM given
    RETURNING key_id, expires_at
)
SELECT given.id, given.name, given.scopes, given.queues, begun.expires_at, true AS is_unmarked
  FROM given JOIN begun ON begun.key_id = given.id
