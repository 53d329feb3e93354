-- Cancel jobs. A waiting job ends at once (queued or blocked → cancelled). For a running one, store a cancel request and
-- notify its worker. Run it in one transaction with record_operation.sql.
--
-- $1 ids uuid[]   $2 the reason, or null   $3 by whom, or null   $4 the stored states to cancel text[]
--
-- Returns a row for each live job among them: id, `cancelled` or `requested`, and the notification to its worker. A job
-- that is not live any more has no row. Waits for a claim in flight, and then counts its job as running.
-- A requested cancel is final: ends_at prevents any further attempt, whatever the outcome of this one.
--
-- Index: job_pkey. Locks: the jobs' rows, in the order of their ids.
WITH target AS MATERIALIZED (
    SELECT id, state
      FROM rowlock.job
     WHERE id = ANY($1::uuid[]) AND state = ANY($4::text[])
     ORDER BY id
       FOR UPDATE
), gone AS (
    DELETE FROM rowlock.job
     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state <> 'running'))  -- seam: cancel at once
    RETURNING {{waiting_columns}}, started_at, errors, crashes
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
       AND job_id = ANY(ARRAY(SELECT gone.id FROM gone))
       AND expires_at IS NULL  -- seam: key of a cancelled job
), kept AS (
    INSERT INTO rowlock.finished_job (
        {{archived_columns}}, started_at, finished_at, errors, crashes, state, error
    )
    SELECT {{archived_columns}},
           started_at, clock_timestamp(), errors, crashes, 'cancelled',
           'Cancelled: ' || coalesce($2::text, concat_ws(' ', 'on request', 'of ' || $3::text))
      FROM gone
), asked AS (
    UPDATE rowlock.job
       SET cancel_requested_at = coalesce(cancel_requested_at, clock_timestamp()), ends_at = '-infinity',
           cancel_reason = coalesce(cancel_reason, $2::text, concat_ws(' ', 'on request', 'of ' || $3::text))
     WHERE id = ANY(ARRAY(SELECT target.id FROM target WHERE target.state = 'running'))
    RETURNING id, worker
)
SELECT id, 'cancelled' AS answer, NULL AS told FROM gone  -- seam: cancelled
 UNION ALL
SELECT id, 'requested', pg_notify('rowlock.wakeup', 'cancel:' || worker)::text FROM asked
