-- Store the answer to the request whose key this transaction has claimed.
--
-- $1 hash of the key bytea   $2 status   $3 body   $4 the job's id. Index: idempotency_key_pkey.
UPDATE rowlock.idempotency_key SET status = $2::smallint, body = $3::text, job_id = $4::uuid WHERE key_hash = $1::bytea
