-- The stored answer to an HTTP request. $1 hash of its key bytea. Index: idempotency_key_pkey.
SELECT fingerprint, status, body, job_id FROM rowlock.idempotency_key WHERE key_hash = $1::bytea
