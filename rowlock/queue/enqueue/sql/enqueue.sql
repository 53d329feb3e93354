-- Enqueue one job, by the function that every language calls. Returns the id of the new job, or of the one that already
-- holds its unique key.
--
-- $1 task   $2 args (JSON text)   $3 queue   $4 priority   $5 delay   $6 run_at   $7 max_attempts   $8 timeout   $9 unique key
-- $10 the id   $11 expires at, or $12 expires in   $13 deadline at, or $14 deadline in
-- $15 unique_until   $16 unique_period   $17 unique_across_tasks   $18 on_duplicate   $19 the version of the arguments   $20 tags text[]
-- $21 metadata (JSON text)   $22 the trace
-- $23 how long to wait for the unique key's holder, as lock_timeout has it; null: as the session says
SELECT rowlock.enqueue(
    task => $1::text, args => $2::text::jsonb, queue => $3::text, priority => $4::integer, delay => $5::interval,
    run_at => $6::timestamptz, max_attempts => $7::integer, timeout => $8::interval, unique_key => $9::text,
    id => $10::uuid, expires_at => coalesce($11::timestamptz, clock_timestamp() + $12::interval),
    deadline => coalesce($13::timestamptz, clock_timestamp() + $14::interval), unique_until => $15::text,
    unique_period => $16::interval, unique_across_tasks => $17::boolean, on_duplicate => $18::text, args_version => $19::integer,
    tags => $20::text[], metadata => $21::text::jsonb, trace => $22::text
) AS id
  FROM (SELECT CASE WHEN $23::text IS NOT NULL THEN set_config('lock_timeout', $23, true) END OFFSET 0) AS limited
