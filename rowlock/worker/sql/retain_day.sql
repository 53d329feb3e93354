-- Remove rows past their retention from one day of the archive. $1 `finished_job`, `attempt` or `attempt_log`   $2 the day
-- Returns what it did, and how many rows it kept. Locks: that partition only, after a wait of at most a second.
SELECT done, kept FROM rowlock.retain_day($1::text, $2::date)
