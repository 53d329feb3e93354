-- Remove rows past their retention from an archive's default partition. $1 `finished_job`, `attempt` or `attempt_log`
-- $2 how many rows at most. Returns how many it removed. Locks: the removed rows.
SELECT rowlock.retain_default($1::text, $2::integer) AS removed  -- seam: default partition
