-- Enqueue one job with only a queue, a priority and a number of attempts, which the caller has checked: does the same as
-- rowlock.enqueue for such a job, in one plain statement. Stores nothing if the id exists already.
--
-- $1 id   $2 queue   $3 task   $4 priority   $5 max_attempts   $6 args (JSON text)   $7 their version
--
-- The transaction's id comes first, then the clock that sets run_at: the claims' cursors rely on it (docs/claiming.md).
WITH added AS (
    INSERT INTO rowlock.job (id, queue, task, priority, max_attempts, args, args_version, run_at)
    VALUES (
        $1::uuid, $2::text, $3::text, $4::smallint, $5::integer, $6::text::jsonb, $7::smallint,
        CASE WHEN pg_current_xact_id() IS NOT NULL THEN clock_timestamp() END
    ) ON CONFLICT DO NOTHING
)
-- seam: wakeup
SELECT pg_notify('rowlock.wakeup', idle.queue) FROM rowlock.idle_worker AS idle WHERE idle.queue = $2::text LIMIT 1
