-- Drop an empty day of the archive. $1 `finished_job`, `attempt` or `attempt_log`   $2 the day
-- Returns whether it was dropped. Locks: the whole archive table for milliseconds, after a wait of at most 0.2 seconds.
SELECT rowlock.drop_day($1::text, $2::date) AS is_dropped
