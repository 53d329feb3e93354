-- Remove the answers to HTTP requests that are no longer repeated. $1 how many at most. Returns how many there were.
--
-- Index: idempotency_key_expires_at. Locks: the removed rows, skipping what others hold.
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
