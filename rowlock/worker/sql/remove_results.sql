-- Remove the results of one task in a span of time, and move the task's mark to the end of the span.
--
-- $1 the task   $2 the span's begin   $3 its end: as due_results.sql returned them, in the same transaction   $4 how many at most
--
-- Returns how many it removed. If that is $4, the mark does not move: the next run looks at the same time again, in a shorter
-- span. Run it under force_custom_plan, so that other partitions are not locked.
--
-- Index: finished_job_finished_at (BRIN) of the days of the span, task_pkey. Locks: the task's row; the rows that it updates.
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
