-- Enqueue one job, by the function that every language calls. Returns the id of the new job, or of the one that already
-- holds its unique key.
--
-- $1 task   $2 args (JSON text)   $3 queue   $4 priority   $5 delay   $6 run_at   $7 max_attempts   $8 timeout   $9 unique key
-- $10 the id   $11 expires at, or $12 expires in   $13 deadline at, or $14 deadline in
-- $15 unique_until   $16 unique_period   $17 unique_across_tasks   $18 on_duplicate   $19 the version of the arguments
-- $20 the trace   $21 its marks (JSON text), or null
-- $22 how long to wait for the unique key's holder, a value of lock_timeout; null: the session's own
SELECT {{enqueue_given}} AS id
  FROM (SELECT CASE WHEN $22::text IS NOT NULL THEN set_config('lock_timeout', $22, true) END OFFSET 0) AS limited
 CROSS JOIN (
       SELECT $1::text AS task, $2::text AS args, $3::text AS queue, $4::integer AS priority, $5::interval AS delay,
              $6::timestamptz AS run_at, $7::integer AS max_attempts, $8::interval AS timeout, $9::text AS unique_key,
              $10::uuid AS id, $11::timestamptz AS expires_at, $12::interval AS expires_in, $13::timestamptz AS deadline,
              $14::interval AS deadline_in, $15::text AS unique_until, $16::interval AS unique_period,
              $17::boolean AS unique_across_tasks, $18::text AS on_duplicate, $19::integer AS args_version,
              $20::text AS trace, $21::text AS marks
       ) AS given
 CROSS JOIN LATERAL ({{given_marks}}) AS mark
