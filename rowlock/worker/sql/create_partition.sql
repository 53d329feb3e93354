-- Create the partition of one day if it is missing. $1 `finished_job`, `attempt` or `attempt_log`   $2 the day
-- Returns whether it was created. Locks: the default partition, and for a day that has begun the whole archive table. Waits
-- at most half a second for the locks, then fails.
SELECT rowlock.create_partition($1::text, $2::date) AS is_made
