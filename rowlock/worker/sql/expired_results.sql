-- The tasks with expired results to remove. Five minutes late, for finishes that commit late.
-- A mark later than that is set back: the server's clock went back, and results of that time come a second time.
WITH set_back AS (
    UPDATE rowlock.task SET results_removed_until = now() - result_ttl - interval '5 minutes'
     WHERE result_ttl IS NOT NULL AND results_removed_until > now() - result_ttl - interval '5 minutes'
)
SELECT name FROM rowlock.task
 WHERE result_ttl IS NOT NULL AND results_removed_until < now() - result_ttl - interval '5 minutes'
 ORDER BY name
