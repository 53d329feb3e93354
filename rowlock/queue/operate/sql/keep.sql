-- Set how long the finished jobs of a queue are kept, by outcome. Other outcomes stay unchanged.
--
-- $1 the queue, or '*' for all queues without their own times   $2 outcomes text[]   $3 their times interval[]: null means
-- "not set", '1000 years' means for ever
--
-- Makes the duty 'retention' due, so that it runs within seconds. Index: queue_pkey, duty_pkey. Locks: the two rows.
WITH told AS (
    INSERT INTO rowlock.queue AS q (name, keep_succeeded, keep_failed, keep_cancelled, keep_expired)
    VALUES (
        $1::text,
        ($3::interval[])[array_position($2::text[], 'succeeded')], ($3::interval[])[array_position($2::text[], 'failed')],
        ($3::interval[])[array_position($2::text[], 'cancelled')], ($3::interval[])[array_position($2::text[], 'expired')]
    )
    ON CONFLICT (name) DO UPDATE
       SET keep_succeeded = CASE WHEN 'succeeded' = ANY($2::text[]) THEN EXCLUDED.keep_succeeded ELSE q.keep_succeeded END,
           keep_failed = CASE WHEN 'failed' = ANY($2::text[]) THEN EXCLUDED.keep_failed ELSE q.keep_failed END,
           keep_cancelled = CASE WHEN 'cancelled' = ANY($2::text[]) THEN EXCLUDED.keep_cancelled ELSE q.keep_cancelled END,
           keep_expired = CASE WHEN 'expired' = ANY($2::text[]) THEN EXCLUDED.keep_expired ELSE q.keep_expired END,
           updated_at = clock_timestamp()
    RETURNING q.name, q.keep_succeeded, q.keep_failed, q.keep_cancelled, q.keep_expired
), woken AS (
    UPDATE rowlock.duty SET next_run_at = '-infinity' WHERE name = 'retention'
)
SELECT name, keep_succeeded, keep_failed, keep_cancelled, keep_expired FROM told
