-- Change when waiting jobs are due, their priority or their queue: queued → queued. Run it with record_operation.sql.
--
-- $1 ids uuid[]   $2 when they are due timestamptz, or $3 in how long interval; both null: as it was, or now if that is over
-- $4 the priority, or null: as it was   $5 the queue, or null: as it was   $6 only jobs of these queues text[]; null: of all
--
-- Returns a row for each of them that waits. Of one that was changed: as it is now, and as it was (`…_before`). Of one that was
-- left alone, since it could not start any more when it would be due: `ends_at`, whether that `is_over` already, and whether
-- that is because a cancel `is_requested`. One that does not wait any more has no row. A claim that is under way is waited for.
--
-- Also a job whose time is left as it was is due no sooner than now: it may come into a lane whose cursors are past its time. The
-- transaction's id comes first, then the clock that sets run_at: the cursors rely on it (docs/claiming.md).
-- Index: job_pkey. Locks: the rows that it changes, in the order of their ids. `worker IS NULL` and not `state = 'queued'`,
-- which would let the planner read all of job_claim on a table that it believes to be empty.
WITH target AS MATERIALIZED (
    SELECT id, queue, priority, run_at
      FROM rowlock.job
     WHERE id = ANY($1::uuid[])
       AND worker IS NULL AND state <> 'blocked'
       AND ($6::text[] IS NULL OR queue = ANY($6::text[]))
       AND (ends_at IS NULL OR ends_at > greatest($2::timestamptz, clock_timestamp() + coalesce($3::interval, '0')))
     ORDER BY id
       FOR NO KEY UPDATE
), changed AS (
    UPDATE rowlock.job
       SET run_at = CASE WHEN pg_current_xact_id() IS NOT NULL
                         THEN greatest(coalesce($2::timestamptz, clock_timestamp() + $3::interval, run_at), clock_timestamp())
                    END,
           priority = coalesce($4::smallint, priority), queue = coalesce($5::text, queue)
     WHERE id = ANY(ARRAY(SELECT target.id FROM target))
       AND worker IS NULL
    RETURNING id, queue, priority, run_at
)
SELECT changed.id, changed.queue, changed.priority, changed.run_at, target.queue AS queue_before,
       target.priority AS priority_before, target.run_at AS run_at_before, true AS is_changed, NULL::timestamptz AS ends_at,
       false AS is_over, false AS is_requested
  FROM changed
  JOIN target ON target.id = changed.id
 UNION ALL
SELECT id, queue, priority, run_at, NULL, NULL, NULL, false, nullif(ends_at, '-infinity'), ends_at <= clock_timestamp(),
       ends_at = '-infinity'
  FROM rowlock.job
 WHERE id = ANY($1::uuid[])
   AND worker IS NULL AND state <> 'blocked'
   AND ($6::text[] IS NULL OR queue = ANY($6::text[]))
   AND ends_at <= greatest($2::timestamptz, clock_timestamp() + coalesce($3::interval, '0'))
