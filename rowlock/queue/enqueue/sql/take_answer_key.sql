-- Claim the key of an HTTP request that must be answered only once. Returns a row if this transaction must give the answer.
--
-- $1 hash of the key bytea   $2 fingerprint of the request bytea   $3 how long the answer is kept interval
--
-- Waits for a transaction that is giving the first answer; if that one rolls back, this one gets the key.
-- Index: idempotency_key_pkey. Locks: the key's row.
INSERT INTO rowlock.idempotency_key AS kept (key_hash, fingerprint, expires_at)
VALUES ($1::bytea, $2::bytea, clock_timestamp() + $3::interval)
ON CONFLICT (key_hash) DO UPDATE
   SET fingerprint = excluded.fingerprint, expires_at = excluded.expires_at, status = NULL, body = NULL, job_id = NULL
 WHERE kept.expires_at <= clock_timestamp()  -- seam: answer key
RETURNING true AS is_taken
