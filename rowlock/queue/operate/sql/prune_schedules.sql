-- Delete the schedules that the code has declared once and does not declare any more, and what is known of their ticks;
-- their jobs stay. Returns them. Index: schedule_pkey, schedule_tick_pkey.
DELETE FROM rowlock.schedule WHERE origin = 'code' AND undeclared_at IS NOT NULL RETURNING name, task, cron, timezone
