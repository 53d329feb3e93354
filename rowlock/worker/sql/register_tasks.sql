-- Store the options of this worker's tasks. $1 names   $2 queues   $3 priorities   $4 max_attempts
-- $5 lifetimes of results interval[]   $6 versions of their arguments smallint[]   $7 whether they are sensitive boolean[]
-- $8 max_crashes integer[], null for those without a limit of their own
INSERT INTO rowlock.task AS known (name, queue, priority, max_attempts, result_ttl, args_version, is_sensitive, max_crashes)
SELECT name, queue, priority, max_attempts, result_ttl, args_version, is_sensitive, max_crashes
  FROM unnest($1::text[], $2::text[], $3::smallint[], $4::integer[], $5::interval[], $6::smallint[],
              $7::boolean[], $8::integer[])
       AS given (name, queue, priority, max_attempts, result_ttl, args_version, is_sensitive, max_crashes)
 ORDER BY name
ON CONFLICT (name) DO UPDATE
   SET queue = excluded.queue, priority = excluded.priority, max_attempts = excluded.max_attempts,
       result_ttl = excluded.result_ttl, args_version = excluded.args_version, is_sensitive = excluded.is_sensitive,
       max_crashes = excluded.max_crashes, updated_at = clock_timestamp()
 WHERE (known.queue, known.priority, known.max_attempts, known.result_ttl, known.args_version, known.is_sensitive,
        known.max_crashes)
       IS DISTINCT FROM (
           excluded.queue, excluded.priority, excluded.max_attempts, excluded.result_ttl, excluded.args_version,
           excluded.is_sensitive, excluded.max_crashes
       )
