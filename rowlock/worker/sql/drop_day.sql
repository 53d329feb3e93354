-- Drop an empty day of the archive. $1 `finished_job`, `attempt` or `attempt_log`   $2 the day
-- Returns whether it is gone. Locks: the whole of that archive, for milliseconds, after at most a fifth of a second's wait.
SELECT rowlock.drop_day($1::text, $2::date) AS is_dropped
