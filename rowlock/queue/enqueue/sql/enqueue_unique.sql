-- Enqueue many jobs with unique keys, by the function that every language calls, in the order of the stored keys:
-- two callers with the same keys then wait for each other and never deadlock. Of the jobs with one key, the first given
-- comes first.
--
-- $1 ids uuid[]   $2 queues text[]   $3 tasks text[]   $4 priorities integer[]   $5 delays interval[]
-- $6 run_ats timestamptz[]   $7 max_attempts integer[]   $8 timeouts interval[]   $9 args (JSON text[])
-- $10 expires_at timestamptz[], or $11 expires in interval[]   $12 deadline at timestamptz[], or $13 in interval[]
-- $14 the versions of the arguments integer[]   $15 traces text[]   $16 the marks of each (JSON text[]), or null
-- $17 keys text[]   $18 unique_until text[]   $19 unique_period interval[]   $20 unique_across_tasks boolean[]
-- $21 on_duplicate text[]
--
-- Returns a row for each job whose key another job holds: its id, and the holder's.
SELECT stored.id, stored.holder
  FROM (
       SELECT id, {{enqueue_given}} AS holder
         FROM (
              SELECT id, queue, task, priority, delay, run_at, max_attempts, timeout, args, expires_at, expires_in,
                     deadline, deadline_in, args_version, trace, marks, unique_key, unique_until, unique_period,
                     unique_across_tasks, on_duplicate
                FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::interval[], $6::timestamptz[],
                            $7::integer[], $8::interval[], $9::text[], $10::timestamptz[], $11::interval[],
                            $12::timestamptz[], $13::interval[], $14::integer[], $15::text[], $16::text[],
                            $17::text[], $18::text[], $19::interval[], $20::boolean[], $21::text[])
                     WITH ORDINALITY
                     AS one (id, queue, task, priority, delay, run_at, max_attempts, timeout, args, expires_at,
                             expires_in, deadline, deadline_in, args_version, trace, marks, unique_key, unique_until,
                             unique_period, unique_across_tasks, on_duplicate, number)
               ORDER BY (CASE WHEN unique_across_tasks THEN '' ELSE task END || ':' || unique_key) COLLATE "C", number
              ) AS given
        CROSS JOIN LATERAL ({{given_marks}}) AS mark
       OFFSET 0
       ) AS stored
 WHERE stored.holder <> stored.id
