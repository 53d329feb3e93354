-- Rewrite a schedule, after lock_schedule.sql in the same transaction. A worker that has read the former version
-- finds another updated_at, and does not fire.
--
-- $1 name   $2 task   $3 queue   $4 priority   $5 max_attempts (null: the task's own)   $6 args (JSON text;
-- null: as they are)   $7 cron   $8 timezone   $9 misfire   $10 overlap   $11 jitter   $12 the version of args (null: as it
-- is)   $13 is_paused   $14 next_run_at
--
-- Index: schedule_pkey. Locks: its row.
UPDATE rowlock.schedule
   SET task = $2::text, queue = $3::text, priority = $4::smallint, max_attempts = $5::integer,
       args = coalesce($6::text::jsonb, args), args_version = coalesce($12::smallint, args_version),
       cron = $7::text, timezone = $8::text, misfire = $9::text, overlap = $10::text, jitter = $11::interval,
       is_paused = $13::boolean, next_run_at = $14::timestamptz, updated_at = clock_timestamp()
 WHERE name = $1::text
