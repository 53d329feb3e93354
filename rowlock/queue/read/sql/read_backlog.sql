-- The number of live jobs in a span of time, slot by slot, and how long the oldest due one had waited.
--
-- Leaves out a slot whose sample does not name every queue and lacks one of $4: that queue's number is not known.
--
-- $1 the length of the slots in seconds integer   $2 from when   $3 until when   $4 only these queues text[], or null
-- Index: backlog_pkey. Takes no lock.
SELECT total.at,
       coalesce(sum(part.waiting), 0)::bigint AS waiting, coalesce(sum(part.running), 0)::bigint AS running,
       total.taken_at - min(part.oldest_due_at) AS oldest_due
  FROM rowlock.backlog AS total
  LEFT JOIN rowlock.backlog AS part
    ON part.step = total.step AND part.at = total.at AND part.taken_at = total.taken_at
   AND CASE WHEN $4::text[] IS NULL THEN part.queue = '*' ELSE part.queue = ANY($4::text[]) AND part.queue NOT IN ('*', '+') END
 WHERE total.step = $1::integer AND total.at >= $2::timestamptz AND total.at < $3::timestamptz AND total.queue = '*'
 GROUP BY total.step, total.at, total.taken_at
HAVING $4::text[] IS NULL
    OR count(part.queue) = cardinality($4::text[])
    OR NOT EXISTS (
       SELECT FROM rowlock.backlog AS other
        WHERE other.step = total.step AND other.at = total.at AND other.queue = '+' AND other.taken_at = total.taken_at
       )
 ORDER BY total.at
