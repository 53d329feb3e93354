-- Record the success of a batch of attempts: running → succeeded. Fenced: only the worker's own, still running attempts.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 results jsonb[]   $5 seconds since each began float8[]
--
-- Returns the ids that were refused: a newer attempt, or an operator, was faster. Where somebody waits for one of the jobs, also
-- a row of null for the notification; whether anybody waits at all is asked once a batch, of a table that is empty then.
--
-- Index: job_pkey by `id = ANY(…)`; the fence on the attempt is a hashed subplan, kept from becoming a join by its CASE.
-- Locks: the rows that it deletes. Their keys are freed in the same statement, but for those until the start: these are
-- free already, and an enqueue that takes one over must not hold up the finish.
-- The time is the statement's, not its transaction's: in job.transaction() that one began long before.
WITH outcome AS MATERIALIZED (
    SELECT id, attempt, result, elapsed
      FROM unnest($2::uuid[], $3::integer[], $4::jsonb[], $5::float8[]) AS given (id, attempt, result, elapsed)
), gone AS (
    DELETE FROM rowlock.job
     WHERE id = ANY($2::uuid[])
       AND worker = $1
       AND CASE WHEN (id, attempt) IN (SELECT outcome.id, outcome.attempt FROM outcome) THEN true ELSE false END
    RETURNING id, run_at, created_at, worker, timeout, attempt, max_attempts, errors, crashes, priority, queue, task,
              args_version, unique_key, error, args, tags, trace
), freed AS (
    DELETE FROM rowlock.unique_key
     WHERE key = ANY(ARRAY(SELECT unique_key FROM gone WHERE unique_key IS NOT NULL))
       AND job_id = ANY($2::uuid[])
       AND expires_at IS NULL
       AND NOT until_start
), kept AS (
    INSERT INTO rowlock.finished_job (
        id, run_at, created_at, started_at, finished_at, worker, timeout, attempt, max_attempts, errors, crashes,
        priority, state, queue, task, args_version, unique_key, error, args, result,
        tags, trace
    )
    SELECT gone.id, gone.run_at, gone.created_at, statement_timestamp() - outcome.elapsed * interval '1 second',
           statement_timestamp(), gone.worker,
           gone.timeout, gone.attempt, gone.max_attempts, gone.errors, gone.crashes, gone.priority, 'succeeded',
           gone.queue, gone.task, gone.args_version, gone.unique_key, gone.error, gone.args, outcome.result, gone.tags, gone.trace
      FROM gone
      JOIN outcome ON outcome.id = gone.id
)
SELECT id FROM outcome
EXCEPT
SELECT id FROM gone
 UNION ALL
SELECT nullif(pg_notify('rowlock.finished', waiter.job_id::text)::text, '')::uuid
  FROM rowlock.waiter
 WHERE EXISTS (SELECT FROM rowlock.waiter)
   AND waiter.job_id = ANY($2::uuid[])
