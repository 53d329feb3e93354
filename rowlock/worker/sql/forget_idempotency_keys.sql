-- Remove expired responses to HTTP requests with an idempotency key. $1 how many at most. Returns how many it removed.
--
-- Index: idempotency_key_expires_at. Locks: the removed rows, skipping rows that other sessions have locked.
WITH over AS (
    DELETE FROM rowlock.idempotency_key
     WHERE key_hash = ANY(ARRAY(
               SELECT key_hash FROM rowlock.idempotency_key WHERE expires_at <= now()
                LIMIT $1::integer FOR UPDATE SKIP LOCKED
           ))
       AND expires_at <= now()
    RETURNING key_hash
)
SELECT count(*) AS forgotten FROM over
