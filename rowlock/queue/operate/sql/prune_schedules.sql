-- Delete the schedules that the code once declared and no longer declares, and their ticks; their jobs stay.
-- Returns them. Index: schedule_pkey, schedule_tick_pkey.
DELETE FROM rowlock.schedule WHERE origin = 'code' AND undeclared_at IS NOT NULL RETURNING name, task, cron, timezone
