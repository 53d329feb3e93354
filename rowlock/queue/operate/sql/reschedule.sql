-- Change when waiting jobs are due, their priority or their queue: queued → queued. Run it with record_operation.sql.
--
-- $1 ids uuid[]   $2 when they are due timestamptz, or $3 in how long interval; both null: as it was
-- $4 the priority, or null: as it was   $5 the queue, or null: as it was   $6 only jobs of these queues text[]; null: of all
--
-- Returns a row for each of them that waits. Of one that `fits`: as it is now, and as it was (`…_before`). Of one that does not,
-- since it could not start any more when it would be due, and is left as it is: `ends_at`, whether that `is_over` already, and
-- whether that is because a cancel `is_requested`. One that does not wait any more has no row.
-- One that is as it is to be, or due where it is to be due now, is not touched: it keeps its place.
--
-- What comes into another lane is due no sooner than now, since the cursors of that lane may be past its time. The transaction's
-- id comes first, then the clock that sets run_at: the cursors rely on it (docs/claiming.md).
-- Index: job_pkey. Locks: the rows that it changes, in the order of their ids; it waits for a claim that is under way. It says
-- `worker IS NULL` and not `state = 'queued'`, which would let the planner read all of job_claim on a table that it believes to
-- be empty.
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
