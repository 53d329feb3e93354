-- Change when waiting jobs are due, their priority or their queue: queued → queued. Run it with record_operation.sql.
--
-- $1 ids uuid[]   $2 when they are due timestamptz, or $3 in how long interval; both null: unchanged
-- $4 the priority, or null: unchanged   $5 the queue, or null: unchanged   $6 only jobs of these queues text[]; null: of all
--
-- Returns a row for each of them that waits. For one that `fits`: its new values, and the former ones (`…_before`). One does
-- not fit, and stays unchanged, if it could not start any more at the new time: then the row has `ends_at`, whether that
-- `is_over` already, and whether the reason is a requested cancel (`is_requested`). One that does not wait any more has no row.
-- It does not update a job that keeps its queue and priority, and its time or that it is due now: that keeps its place.
--
-- A job that moves to another lane is due now at the earliest, because the cursors of that lane may have passed its time. The
-- transaction's id comes first, then the clock that sets run_at: the cursors rely on it (docs/claiming.md).
-- Index: job_pkey. Locks: the rows that it changes, in the order of their ids; it waits for a claim in flight. It uses
-- `worker IS NULL`: with `state = 'queued'` the planner could read all of job_claim on a table that it believes to be empty.
WITH asked AS MATERIALIZED (
    SELECT clock.now, greatest($2::timestamptz, clock.now + coalesce($3::interval, '0')) AS due_at,
           $2::timestamptz IS NOT NULL OR $3::interval IS NOT NULL AS is_timed
      FROM (SELECT clock_timestamp() AS now OFFSET 0) AS clock
), waiting AS MATERIALIZED (
    SELECT job.id, job.queue, job.priority, job.run_at, job.ends_at, asked.now, least(job.expires_at, job.deadline) AS limit_at,
           job.cancel_requested_at IS NOT NULL AS is_requested,
           coalesce(job.ends_at > asked.due_at, true) AS fits,
           coalesce(job.queue <> $5::text, false) OR coalesce(job.priority <> $4::smallint, false)
           OR asked.is_timed AND greatest(job.run_at, asked.due_at) > asked.now AS differs
      FROM rowlock.job
     CROSS JOIN asked
     WHERE job.id = ANY($1::uuid[])
       AND job.worker IS NULL AND job.state <> 'blocked'
       AND ($6::text[] IS NULL OR job.queue = ANY($6::text[]))
), target AS MATERIALIZED (
    SELECT id, queue, priority, run_at
      FROM rowlock.job
     WHERE id = ANY(ARRAY(SELECT waiting.id FROM waiting WHERE waiting.fits AND waiting.differs))
       AND worker IS NULL AND state <> 'blocked'
       AND ($6::text[] IS NULL OR queue = ANY($6::text[]))
       AND (ends_at IS NULL OR ends_at > (SELECT asked.due_at FROM asked))
     ORDER BY id
       FOR NO KEY UPDATE
), changed AS (
    UPDATE rowlock.job
       SET run_at = CASE WHEN pg_current_xact_id() IS NOT NULL
                         -- seam: rescheduled
                         THEN greatest(coalesce($2::timestamptz, clock_timestamp() + $3::interval, run_at), clock_timestamp())
                    END,
           priority = coalesce($4::smallint, priority), queue = coalesce($5::text, queue)
     WHERE id = ANY(ARRAY(SELECT target.id FROM target))
       AND worker IS NULL
    RETURNING id, queue, priority, run_at
)
SELECT changed.id, changed.queue, changed.priority, changed.run_at, target.queue AS queue_before,
       target.priority AS priority_before, target.run_at AS run_at_before, true AS fits, NULL::timestamptz AS ends_at,
       false AS is_over, false AS is_requested
  FROM changed
  JOIN target ON target.id = changed.id
 UNION ALL
SELECT id, queue, priority, run_at, queue, priority, run_at, fits, coalesce(nullif(ends_at, '-infinity'), limit_at),
       ends_at <= now, is_requested
  FROM waiting
 WHERE NOT (fits AND differs)
