-- Record attempts that end their jobs without success: running → failed or cancelled. Fenced like succeed.sql.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 seconds since each began float8[]
-- $5 final states text[]   $6 outcomes of the attempts text[]   $7 whether each counts as an error boolean[]
-- $8 types of the errors text[]   $9 messages text[]   $10 tracebacks text[]
--
-- Returns the ids that were refused, and a null for each notification, as succeed.sql does. Index: job_pkey. Locks: the rows that it deletes.
WITH outcome AS MATERIALIZED (
    SELECT id, attempt, elapsed, state, outcome, counts, error_type, message, traceback
      FROM unnest($2::uuid[], $3::integer[], $4::float8[], $5::text[], $6::text[], $7::boolean[], $8::text[], $9::text[],
                  $10::text[])
           AS given (id, attempt, elapsed, state, outcome, counts, error_type, message, traceback)
), gone AS (
    DELETE FROM rowlock.job
     WHERE id = ANY($2::uuid[])
       AND worker = $1
       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
    RETURNING id, run_at, created_at, worker, timeout, attempt, max_attempts, errors, crashes, priority, queue, task,
              args_version, unique_key, error, args, tags, metadata, trace
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
       AND job_id = ANY($2::uuid[])
       AND expires_at IS NULL
       AND NOT until_start  -- seam: key of a failed job
), told AS (
    INSERT INTO rowlock.attempt (
        job_id, attempt, outcome, queue, task, worker, started_at, finished_at, error_type, message, traceback
    )
    SELECT gone.id, gone.attempt, outcome.outcome, gone.queue, gone.task, gone.worker,
           now() - outcome.elapsed * interval '1 second', now(),
           outcome.error_type, outcome.message, outcome.traceback
      FROM gone
      JOIN outcome ON outcome.id = gone.id AND outcome.attempt = gone.attempt
), kept AS (
    INSERT INTO rowlock.finished_job (
        id, run_at, created_at, started_at, finished_at, worker, timeout, attempt, max_attempts, errors, crashes,
        priority, state, queue, task, args_version, unique_key, error, args, tags, metadata, trace
    )
    SELECT gone.id, gone.run_at, gone.created_at, now() - outcome.elapsed * interval '1 second', now(), gone.worker,
           gone.timeout, gone.attempt, gone.max_attempts, least(gone.errors, 2147483646) + outcome.counts::integer, gone.crashes,
           gone.priority, outcome.state, gone.queue, gone.task, gone.args_version, gone.unique_key,
           -- seam: last error
           coalesce(concat_ws(': ', outcome.error_type, outcome.message), gone.error), gone.args, gone.tags,
           gone.metadata, gone.trace
      FROM gone
      JOIN outcome ON outcome.id = gone.id AND outcome.attempt = gone.attempt
)
SELECT id FROM outcome
EXCEPT
SELECT id FROM gone
 UNION ALL
SELECT nullif(pg_notify('rowlock.finished', waiter.job_id::text)::text, '')::uuid
  FROM rowlock.waiter
 WHERE EXISTS (SELECT FROM rowlock.waiter)
   AND waiter.job_id = ANY($2::uuid[])
