-- Audit the answers to HTTP requests: none stays long after it expired. One row.
--
-- $1 how many keys to check   $2 how long upkeep may leave an expired key interval   $3 how many examples
--
-- Upkeep removes the keys (forget_idempotency_keys.sql). One counts only if a worker has lived for that long, and if the
-- duty 'keys' has run that long after: the duty skips a key that a request has locked, and requests last for seconds.
-- Index: idempotency_key_expires_at, the oldest first. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT left(encode(key_hash, 'hex'), 16) AS key, expires_at
      FROM rowlock.idempotency_key
     ORDER BY idempotency_key.expires_at
     LIMIT $1::integer
), broken AS (
    SELECT 'idempotency key past its time' AS invariant, format('key %s… was over at %s', key, expires_at) AS example
      FROM looked
     WHERE {{is_left_over}}
)
SELECT named.invariant, count(broken.example) AS broken, (SELECT count(*) FROM looked) AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$3::integer], '{}') AS examples
  FROM unnest(ARRAY['idempotency key past its time']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
