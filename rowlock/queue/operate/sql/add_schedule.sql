-- Create a schedule; returns its name, or no row if another schedule has it. Locks: the new row.
--
-- $1 name   $2 task   $3 queue   $4 priority   $5 max_attempts (null: the task's own)   $6 args (JSON text)   $7 cron
-- $8 timezone   $9 misfire   $10 overlap   $11 jitter   $12 the version of args   $13 is_paused   $14 next_run_at
INSERT INTO rowlock.schedule
       (name, task, queue, priority, max_attempts, args, cron, timezone, misfire, overlap, jitter, args_version,
        is_paused, next_run_at)
VALUES ($1::text, $2::text, $3::text, $4::smallint, $5::integer, $6::text::jsonb, $7::text,
        $8::text, $9::text, $10::text, $11::interval, $12::smallint, $13::boolean,
        $14::timestamptz)
ON CONFLICT DO NOTHING
RETURNING name
