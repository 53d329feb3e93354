-- Fire ticks of a schedule: record them, enqueue a job for each, and move next_run_at, all or nothing. If the schedule has
-- changed since the ticks were computed, or another worker fires it, nothing changes and no row is returned.
--
-- $1 name   $2 next_run_at, $3 updated_at, $4 last_job_id, as due_schedules.sql returned them
-- $5 ticks timestamptz[], in their order   $6 the ids of their jobs uuid[]   $7 the new next_run_at
-- $8 when the task's jobs expire, or $9 how long after they are due; $10, $11 their deadline likewise; null: never
-- $12 the task's marks (JSON text), or null
--
-- Returns the number of its jobs, and their queue. A tick fires only once (schedule_tick_pkey). With overlap `skip`, only
-- the first tick fires, and only if the last job has finished.
--
-- Index: schedule_pkey, schedule_tick_pkey, job_pkey, task_pkey. Locks: the schedule's row, skipped if it is locked. The
-- transaction's id comes first, then the clock that sets run_at: the claims' cursors rely on it (docs/claiming.md).
WITH schedule AS MATERIALIZED (
    SELECT s.name, s.task, coalesce(s.queue, known.queue, 'default') AS queue,  -- seam: queue of a tick
           coalesce(s.priority, known.priority, 5) AS priority,
           coalesce(s.max_attempts, known.max_attempts, 10) AS max_attempts, s.args, s.args_version, s.jitter,
           s.overlap, s.last_job_id
      FROM rowlock.schedule AS s
      LEFT JOIN rowlock.task AS known ON known.name = s.task
     WHERE s.name = $1::text
       AND s.next_run_at = $2::timestamptz  -- seam: tick
       AND s.updated_at = $3::timestamptz
       AND s.last_job_id IS NOT DISTINCT FROM $4::uuid  -- seam: last job
       AND NOT s.is_paused
       FOR NO KEY UPDATE OF s SKIP LOCKED  -- seam: schedule lock
), tick AS (
    INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id)
    SELECT schedule.name, given.tick_at, given.job_id
      FROM schedule
     CROSS JOIN unnest($5::timestamptz[], $6::uuid[]) WITH ORDINALITY AS given (tick_at, job_id, place)
     WHERE schedule.overlap = 'allow'
        -- seam: overlap
        OR (given.place = 1 AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = schedule.last_job_id))
    ON CONFLICT DO NOTHING
    RETURNING tick_at, job_id
), due AS MATERIALIZED (
    SELECT tick.job_id, CASE WHEN pg_current_xact_id() IS NOT NULL THEN
               greatest(clock_timestamp(), tick.tick_at + random() * schedule.jitter)
           END AS run_at
      FROM schedule
     CROSS JOIN tick
), timed AS (
    SELECT due.job_id, due.run_at, coalesce($8::timestamptz, due.run_at + $9::interval) AS expires_at,
           coalesce($10::timestamptz, due.run_at + $11::interval) AS deadline, $12::text AS marks
      FROM due
), made AS (
    INSERT INTO rowlock.job
           (id, queue, task, priority, max_attempts, args, args_version, run_at, expires_at, deadline, ends_at, {{job_marks}})
    SELECT due.job_id, schedule.queue, schedule.task, schedule.priority, schedule.max_attempts, schedule.args,
           schedule.args_version, due.run_at, due.expires_at, due.deadline, least(due.expires_at, due.deadline),
           {{job_marks}}
      FROM schedule
     CROSS JOIN timed AS due
     CROSS JOIN LATERAL ({{given_marks}}) AS mark
    RETURNING id
), moved AS (
    UPDATE rowlock.schedule
       SET next_run_at = $7::timestamptz,
           last_tick_at = coalesce((SELECT max(tick.tick_at) FROM tick), rowlock.schedule.last_tick_at),
           last_job_id = coalesce(
               (SELECT tick.job_id FROM tick ORDER BY tick.tick_at DESC LIMIT 1), rowlock.schedule.last_job_id
           )
     WHERE name = (SELECT schedule.name FROM schedule)
    RETURNING name
)
SELECT schedule.queue, (SELECT count(*) FROM made) AS jobs
  FROM schedule
  JOIN moved ON moved.name = schedule.name
