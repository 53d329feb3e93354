-- Put finished jobs back, as the same jobs: failed, cancelled or expired → queued. Attempts keep counting;
-- errors and crashes restart at zero. Run it in the transaction of lock_finished.sql, retake_keys.sql and record_operation.sql.
--
-- $1 ids uuid[]   $2 other arguments (JSON text) for all of them, or null   $3 the version of these, or null: unchanged
-- $4 when they ended timestamptz[]: run it under force_custom_plan, so that other partitions are not locked
--
-- The transaction's id comes first, then the clock that sets run_at: the claims' cursors rely on it (docs/claiming.md).
-- Returns the id and the queue of each job that it put back. Index: finished_job_id of each of these partitions.
-- Locks: the rows that it deletes.
WITH gone AS (
    DELETE FROM rowlock.finished_job
     -- seam: retried
     WHERE id = ANY($1::uuid[]) AND finished_at = ANY($4::timestamptz[]) AND state IN ('failed', 'cancelled', 'expired')
    RETURNING id, attempt, args_version, error, args, {{lasting_columns}}
), back AS (
    INSERT INTO rowlock.job (
        id, attempt, args_version, error, args, {{lasting_columns}}, run_at
    )
    SELECT id, attempt, coalesce($3::smallint, args_version), error, coalesce($2::text::jsonb, args), {{lasting_columns}},
           CASE WHEN pg_current_xact_id() IS NOT NULL THEN clock_timestamp() END
      FROM gone
)
SELECT id, queue FROM gone
