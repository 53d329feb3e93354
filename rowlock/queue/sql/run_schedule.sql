-- Enqueue a job of the schedule $1 now, whatever its cron text, its pause and its overlap policy say. $2 the job's id.
-- Returns the job's queue. What the schedule leaves open is as the task has it.
--
-- $3, $4 when the task's jobs expire, and their deadline: intervals; null: never
-- $5, $6 the task's tags text[], and its metadata (JSON text), or null
--
-- Index: schedule_pkey, task_pkey. Locks: the schedule's row. The transaction's id comes first, then the clock that sets
-- run_at: the claims' cursors rely on it (docs/claiming.md).
WITH schedule AS (
    UPDATE rowlock.schedule SET last_job_id = $2::uuid
     WHERE name = $1::text
    RETURNING task, queue, priority, max_attempts, args, args_version
), moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now WHERE pg_current_xact_id() IS NOT NULL
)
INSERT INTO rowlock.job (
    id, queue, task, priority, max_attempts, args, args_version, run_at, expires_at, deadline, ends_at, tags, metadata
)
SELECT $2::uuid, coalesce(schedule.queue, known.queue, 'default'), schedule.task,
       coalesce(schedule.priority, known.priority, 5), coalesce(schedule.max_attempts, known.max_attempts, 10),
       schedule.args, schedule.args_version, moment.now, moment.now + $3::interval, moment.now + $4::interval,
       moment.now + least($3::interval, $4::interval), $5::text[], $6::text::jsonb
  FROM schedule
 CROSS JOIN moment
  LEFT JOIN rowlock.task AS known ON known.name = schedule.task
RETURNING queue
