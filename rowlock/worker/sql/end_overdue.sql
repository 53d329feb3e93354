-- End overdue waiting jobs, and free their keys: queued → cancelled for a cancel request, → failed for a passed deadline,
-- → expired for the rest, which never started.
--
-- $1 how many at most   Returns one row a job: id, task, queue and its state.
-- Index: job_ends, past running jobs whose time is over. Locks: the rows that it deletes, skipping rows that other sessions have locked.
WITH overdue AS MATERIALIZED (
    SELECT id
      FROM rowlock.job
     WHERE state <> 'running' AND ends_at IS NOT NULL AND ends_at <= now()  -- seam: overdue
     ORDER BY ends_at
     LIMIT $1::integer
       FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM rowlock.job
     WHERE id = ANY(ARRAY(SELECT overdue.id FROM overdue))
    RETURNING {{waiting_columns}}, errors, crashes,
              CASE WHEN cancel_requested_at IS NOT NULL THEN 'cancelled'
                   WHEN deadline <= now() THEN 'failed'
                   ELSE 'expired' END AS state,
              CASE WHEN cancel_requested_at IS NOT NULL THEN coalesce('Cancelled: ' || cancel_reason, error)
                   WHEN deadline <= now() THEN concat_ws('; ', format('its deadline passed at %s', deadline), error)
                   ELSE format('it had not started when it expired at %s', expires_at) END AS why
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
       AND job_id = ANY(ARRAY(SELECT gone.id FROM gone))
       AND expires_at IS NULL
       AND NOT until_start  -- seam: key of an expired job
), kept AS (
    INSERT INTO rowlock.finished_job (
        {{archived_columns}}, finished_at, errors, crashes, state, error
    )
    SELECT {{archived_columns}},
           now(), errors, crashes, state, why
      FROM gone
)
SELECT id, task, queue, state FROM gone
