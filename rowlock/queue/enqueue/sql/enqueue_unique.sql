-- Enqueue many jobs with unique keys, by the function that every language calls, in the order of the keys as they are
-- stored: two callers with the same keys then wait for each other, and never lock each other out. Of the jobs with one key
-- the first given comes first.
--
-- $1 ids uuid[]   $2 queues text[]   $3 tasks text[]   $4 priorities integer[]   $5 delays interval[]
-- $6 run_ats timestamptz[]   $7 max_attempts integer[]   $8 timeouts interval[]   $9 args (JSON text[])
-- $10 expire at timestamptz[], or $11 in interval[]   $12 deadlines at timestamptz[], or $13 in interval[]
-- $14 the versions of the arguments integer[]   $15 keys text[]   $16 unique_until text[]   $17 unique_period interval[]
-- $18 unique_across_tasks boolean[]   $19 on_duplicate text[]
-- $20 tags (JSON text[]: an array each, or null)   $21 metadata (JSON text[])   $22 traces text[]
--
-- Returns a row for each job whose key is held by another one: its id, and the holder's.
SELECT stored.id, stored.holder
  FROM (
       SELECT given.id,
              rowlock.enqueue(
                  task => given.task, args => given.args::jsonb, queue => given.queue, priority => given.priority,
                  delay => given.delay, run_at => given.run_at, max_attempts => given.max_attempts,
                  timeout => given.timeout, unique_key => given.key, id => given.id,
                  expires_at => coalesce(given.expires_at, clock_timestamp() + given.expires_in),
                  deadline => coalesce(given.deadline, clock_timestamp() + given.deadline_in), unique_until => given.until,
                  unique_period => given.period, unique_across_tasks => given.across, on_duplicate => given.on_duplicate,
                  args_version => given.args_version,
                  tags => CASE WHEN given.tags IS NOT NULL
                               THEN ARRAY(SELECT jsonb_array_elements_text(given.tags::jsonb))
                          END,
                  metadata => given.metadata::jsonb, trace => given.trace
              ) AS holder
         FROM (
              SELECT id, queue, task, priority, delay, run_at, max_attempts, timeout, args, expires_at, expires_in,
                     deadline, deadline_in, args_version, key, until, period, across, on_duplicate, tags, metadata,
                     trace
                FROM unnest($1::uuid[], $2::text[], $3::text[], $4::integer[], $5::interval[], $6::timestamptz[],
                            $7::integer[], $8::interval[], $9::text[], $10::timestamptz[], $11::interval[],
                            $12::timestamptz[], $13::interval[], $14::integer[], $15::text[], $16::text[],
                            $17::interval[], $18::boolean[], $19::text[], $20::text[], $21::text[], $22::text[])
                     WITH ORDINALITY
                     AS one (id, queue, task, priority, delay, run_at, max_attempts, timeout, args, expires_at,
                             expires_in, deadline, deadline_in, args_version, key, until, period, across, on_duplicate,
                             tags, metadata, trace, number)
               ORDER BY (CASE WHEN across THEN '' ELSE task END || ':' || key) COLLATE "C", number
              ) AS given
       OFFSET 0
       ) AS stored
 WHERE stored.holder <> stored.id
