-- Delete the schedule $1 and its ticks; its jobs stay. Index: schedule_pkey, schedule_tick_pkey.
DELETE FROM rowlock.schedule WHERE name = $1::text
