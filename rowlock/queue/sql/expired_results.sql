-- The tasks that have results to remove: those whose lifetime is over. Five minutes late, for finishes that commit late.
SELECT name FROM rowlock.task
 WHERE result_ttl IS NOT NULL AND results_removed_until < now() - result_ttl - interval '5 minutes'
 ORDER BY name
