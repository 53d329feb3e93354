-- Record attempts that end their jobs without success: running → failed or cancelled. Fenced like succeed.sql.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 seconds since each began float8[]
-- $5 final states text[]   $6 outcomes of the attempts text[]   $7 whether each counts as an error boolean[]
-- $8 types of the errors text[]   $9 messages text[]   $10 tracebacks text[]
--
-- Returns the ids that were refused, and a null for each notification, as succeed.sql does.
-- Index: job_pkey. Locks: the rows that it deletes.
WITH outcome AS MATERIALIZED (
    SELECT id, attempt, elapsed, state, outcome, counts, error_type, message, traceback
      FROM unnest($2::uuid[], $3::integer[], $4::float8[], $5::text[], $6::text[], $7::boolean[], $8::text[], $9::text[],
                  $10::text[])
           AS given (id, attempt, elapsed, state, outcome, counts, error_type, message, traceback)
), gone AS (
    DELETE FROM rowlock.job
     WHERE {{own_attempts}}
    RETURNING {{archived_columns}}, worker, errors, crashes, error
), freed AS (
    {{free_keys}}  -- seam: key of a failed job
), told AS (
    INSERT INTO rowlock.attempt ({{attempt_columns}})
    SELECT gone.id, gone.attempt, outcome.outcome, gone.queue, gone.task, gone.worker,
           now() - outcome.elapsed * interval '1 second', now(),
           outcome.error_type, outcome.message, outcome.traceback
      FROM gone
      JOIN outcome ON outcome.id = gone.id AND outcome.attempt = gone.attempt
), kept AS (
    INSERT INTO rowlock.finished_job (
        {{archived_columns}}, started_at, finished_at, worker, errors, crashes, state, error
    )
    SELECT {{archived_columns}},
           now() - outcome.elapsed * interval '1 second', now(), worker, least(errors, 2147483646) + outcome.counts::integer,
           crashes, outcome.state, coalesce(concat_ws(': ', outcome.error_type, outcome.message), error)  -- seam: last error
      FROM gone
      JOIN outcome USING (id, attempt)
)
{{refused}}
