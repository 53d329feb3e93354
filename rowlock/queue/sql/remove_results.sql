-- Remove results whose lifetime is over, of one task: the next part of the time between the last run and now.
--
-- $1 the task   $2 the length of that part interval   $3 how many at most
--
-- Returns how many it removed, and whether all that is due now is done. The mark moves on only if it was not stopped by $3: then
-- the same time is looked at again, in a smaller part.
--
-- Index: finished_job_finished_at (BRIN) of the days in question, task_pkey. Locks: the task's row; the rows that it updates.
WITH part AS MATERIALIZED (
    SELECT name, greatest(results_removed_until, now() - interval '30 years') AS since,
           least(
               greatest(results_removed_until, now() - interval '30 years') + $2::interval,
               now() - result_ttl - interval '5 minutes'
           ) AS until,
           now() - result_ttl - interval '5 minutes' AS due
      FROM rowlock.task
     WHERE name = $1::text AND result_ttl IS NOT NULL
       FOR NO KEY UPDATE
), removed AS (
    UPDATE rowlock.finished_job
       SET result = NULL
     WHERE (tableoid, ctid) IN (
               SELECT old.tableoid, old.ctid
                 FROM rowlock.finished_job AS old
                WHERE old.finished_at >= (SELECT since FROM part)
                  AND old.finished_at < (SELECT until FROM part)
                  AND old.task = $1::text
                  AND old.result IS NOT NULL
                LIMIT $3::integer
           )
       AND finished_at >= (SELECT since FROM part)
       AND finished_at < (SELECT until FROM part)
    RETURNING id
), moved AS (
    UPDATE rowlock.task
       SET results_removed_until = part.until
      FROM part
     WHERE task.name = part.name AND (SELECT count(*) FROM removed) < $3::integer
)
SELECT (SELECT count(*) FROM removed) AS removed, part.until >= part.due AS is_last FROM part
