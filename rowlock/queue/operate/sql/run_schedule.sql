-- Enqueue a job of the schedule $1 now, regardless of its cron text, its pause and its overlap policy. $2 the job's id.
-- Returns the job's queue. The task's own options apply where the schedule sets none.
--
-- $3 when the task's jobs expire, or $4 how long from now; $5, $6 their deadline likewise; null: never
-- $7 the task's marks (JSON text), or null
--
-- Index: schedule_pkey, task_pkey. Locks: the schedule's row. The transaction's id comes first, then the clock that sets
-- run_at: the claims' cursors rely on it (docs/claiming.md).
WITH schedule AS (
    UPDATE rowlock.schedule SET last_job_id = $2::uuid
     WHERE name = $1::text
    RETURNING task, queue, priority, max_attempts, args, args_version
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now WHERE pg_current_xact_id() IS NOT NULL
), timed AS (
    SELECT now, coalesce($3::timestamptz, now + $4::interval) AS expires_at,
           coalesce($5::timestamptz, now + $6::interval) AS deadline, $7::text AS marks
      FROM moment
)
INSERT INTO rowlock.job (
    id, queue, task, priority, max_attempts, args, args_version, run_at, expires_at, deadline, ends_at, {{job_marks}}
)
SELECT $2::uuid, coalesce(schedule.queue, known.queue, 'default'), schedule.task,
       coalesce(schedule.priority, known.priority, 5), coalesce(schedule.max_attempts, known.max_attempts, 10),
       schedule.args, schedule.args_version, timed.now, timed.expires_at, timed.deadline,
       least(timed.expires_at, timed.deadline), {{job_marks}}
  FROM schedule
 CROSS JOIN timed
 CROSS JOIN LATERAL ({{given_marks}}) AS mark
  LEFT JOIN rowlock.task AS known ON known.name = schedule.task
RETURNING queue
