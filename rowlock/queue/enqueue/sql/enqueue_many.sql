-- Enqueue many jobs without unique keys by one INSERT, inside the caller's transaction. Skips a job whose id
-- exists already.
--
-- $1 ids uuid[]   $2 queues text[]   $3 tasks text[]   $4 priorities smallint[]   $5 delays interval[]
-- $6 run_ats timestamptz[]   $7 max_attempts integer[]   $8 timeouts interval[]   $9 args (JSON text[])
-- $10 expires_at timestamptz[], or $11 expires in interval[]   $12 deadline at timestamptz[], or $13 in interval[]
-- $14 the versions of the arguments smallint[]   $15 traces text[]   $16 the marks of each (JSON text[]), or null
--
-- The transaction's id comes first, then the clock that sets run_at: the claims' cursors rely on it (docs/claiming.md).
WITH moment AS MATERIALIZED (
    SELECT clock_timestamp() AS now WHERE pg_current_xact_id() IS NOT NULL
)
INSERT INTO rowlock.job (
    id, queue, task, priority, run_at, max_attempts, timeout, args, args_version, ends_at, expires_at, deadline, trace,
    {{job_marks}}
)
SELECT given.id, given.queue, given.task, given.priority,
       greatest(moment.now, given.run_at, moment.now + given.delay),
       given.max_attempts, given.timeout, given.args, given.args_version,
       least(given.expires_at, moment.now + given.expires_in, given.deadline, moment.now + given.deadline_in),
       coalesce(given.expires_at, moment.now + given.expires_in),
       coalesce(given.deadline, moment.now + given.deadline_in),
       given.trace, {{job_marks}}
  FROM moment
 CROSS JOIN unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::interval[], $6::timestamptz[],
                   $7::integer[], $8::interval[], $9::text[]::jsonb[],
                   $10::timestamptz[], $11::interval[], $12::timestamptz[], $13::interval[], $14::smallint[],
                   $15::text[], $16::text[])
       AS given (id, queue, task, priority, delay, run_at, max_attempts, timeout, args,
                 expires_at, expires_in, deadline, deadline_in, args_version, trace, marks)
 CROSS JOIN LATERAL ({{given_marks}}) AS mark
ON CONFLICT DO NOTHING
