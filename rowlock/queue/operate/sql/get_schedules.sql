-- The schedules, by name, and whether their tasks are sensitive. $1 the name of one, or null for all.
-- Index: schedule_pkey, task_pkey.
SELECT name, task, queue, priority, max_attempts, args::text AS args, args_version, cron, timezone, misfire, overlap, jitter,
       is_paused, origin, undeclared_at, next_run_at, last_tick_at, last_job_id, created_at, updated_at,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = schedule.task), false) AS is_sensitive
  FROM rowlock.schedule
 WHERE $1::text IS NULL OR name = $1::text
 ORDER BY name
