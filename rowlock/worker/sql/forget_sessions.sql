-- Remove the sessions that are over, and the keys that ended three months ago: all but the newest key, which keeps the API
-- closed. $1 how many at most. Returns how many sessions there were.
--
-- Index: api_session_expires_at. Locks: the removed rows, skipping what others hold.
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
