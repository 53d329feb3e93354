-- Remove expired sessions, and keys that ended three months ago. Keep the newest key: while a key exists, the API is
-- closed to requests without one. $1 how many at most. Returns how many sessions it removed.
--
-- Index: api_session_expires_at. Locks: the removed rows, skipping rows that other sessions have locked.
WITH over AS (
    DELETE FROM rowlock.api_session
     WHERE hash = ANY(ARRAY(
               SELECT hash FROM rowlock.api_session WHERE expires_at <= now()
                LIMIT $1::integer FOR UPDATE SKIP LOCKED
           ))
    RETURNING hash
), old AS (
    DELETE FROM rowlock.api_key
     WHERE least(revoked_at, expires_at) < now() - interval '90 days'
       AND id <> (SELECT id FROM rowlock.api_key ORDER BY id DESC LIMIT 1)
)
SELECT count(*) AS forgotten FROM over
