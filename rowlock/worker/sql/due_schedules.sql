-- The schedules that are due, or will be within $3, the earliest first; with the database's time.
--
-- $1 the tasks that this worker has text[]: it fires only their schedules   $2 names to leave out text[]
-- $3 how far to look ahead interval   $4 limit
--
-- Index: schedule_next_run_at. Locks: none; fire_ticks.sql checks that the schedule has not changed since.
SELECT name, task, cron, timezone, misfire, overlap, next_run_at, last_job_id, updated_at, clock_timestamp() AS now
  FROM rowlock.schedule
 WHERE next_run_at <= now() + $3::interval
   AND NOT is_paused
   AND task = ANY($1::text[])
   AND name <> ALL($2::text[])
 ORDER BY next_run_at
 LIMIT $4
