-- Limit how many jobs of a queue each worker runs at once.
--
-- $1 the queue   $2 the limit; null: each worker's own. Returns the limit `before`.
-- Index: queue_pkey. Locks: its row.
WITH before AS MATERIALIZED (
    SELECT concurrency FROM rowlock.queue WHERE name = $1::text FOR UPDATE
), told AS (
    INSERT INTO rowlock.queue (name, concurrency)
    SELECT $1::text, $2::integer FROM (SELECT count(*) FROM before) AS locked
    ON CONFLICT (name) DO UPDATE SET concurrency = EXCLUDED.concurrency, updated_at = clock_timestamp()
)
SELECT (SELECT before.concurrency FROM before) AS before
