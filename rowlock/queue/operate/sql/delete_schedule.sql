-- Delete the schedule $1, and what is known of its ticks; its jobs stay. Index: schedule_pkey, schedule_tick_pkey.
DELETE FROM rowlock.schedule WHERE name = $1::text
