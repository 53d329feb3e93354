-- Remove the results of one task in a part of the time, and move the mark of the task to its end.
--
-- $1 the task   $2 when that part begins   $3 when it ends: as due_results.sql has it, in the same transaction   $4 how many at most
--
-- Returns how many it removed. The mark moves on only if it was not stopped by $4: then the same time is looked at again, in a
-- smaller part. Run it under force_custom_plan, so that other partitions are not locked.
--
-- Index: finished_job_finished_at (BRIN) of the days in question, task_pkey. Locks: the task's row; the rows that it updates.
WITH removed AS (
    UPDATE rowlock.finished_job
       SET result = NULL
     WHERE (tableoid, ctid) IN (
               SELECT old.tableoid, old.ctid
                 FROM rowlock.finished_job AS old
                WHERE old.finished_at >= $2::timestamptz
                  AND old.finished_at < $3::timestamptz
                  AND old.task = $1::text
                  AND old.result IS NOT NULL
                LIMIT $4::integer
           )
       AND finished_at >= $2::timestamptz
       AND finished_at < $3::timestamptz
    RETURNING id
), moved AS (
    UPDATE rowlock.task
       SET results_removed_until = $3::timestamptz
     WHERE name = $1::text AND (SELECT count(*) FROM removed) < $4::integer
)
SELECT count(*) AS removed FROM removed
