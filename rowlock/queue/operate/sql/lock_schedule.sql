-- Lock the schedule $1 for an act on it, and read it with the database's time.
--
-- Index: schedule_pkey. Locks: its row, also against the workers that fire its ticks.
SELECT name, task, queue, priority, max_attempts, args::text AS args, args_version, cron, timezone, misfire, overlap, jitter,
       is_paused, origin, undeclared_at, next_run_at, last_tick_at, last_job_id, created_at, updated_at, clock_timestamp() AS now,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = schedule.task), false) AS is_sensitive
  FROM rowlock.schedule
 WHERE name = $1::text
   FOR NO KEY UPDATE
