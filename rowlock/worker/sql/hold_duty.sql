-- Postpone a duty while the worker that has it is not done. $1 its name   $2 for how long interval.
-- If that worker dies, the duty falls due by itself.
UPDATE rowlock.duty SET next_run_at = clock_timestamp() + $2::interval, set_at = clock_timestamp() WHERE name = $1::text
