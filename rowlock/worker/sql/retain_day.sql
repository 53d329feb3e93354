-- Remove what is past its time from one day of the archive. $1 `finished_job`, `attempt` or `attempt_log`   $2 the day
-- Returns what was done, and how many rows were kept. Locks: that partition alone, after at most a second's wait.
SELECT done, kept FROM rowlock.retain_day($1::text, $2::date)
