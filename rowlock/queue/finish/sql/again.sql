-- Put attempts back: running → queued, due after a delay. For a retry, a snooze, and a release at shutdown. Fenced.
--
-- $1 the worker   $2 ids uuid[]   $3 attempts integer[]   $4 seconds since each began float8[], null if it did not begin
-- $5 delays interval[]   $6 outcomes of the attempts text[]   $7 whether each counts as an error boolean[]
-- $8 types of the errors text[]   $9 messages text[]   $10 tracebacks text[]
--
-- The transaction's id comes first, then the clock that sets run_at: the claims' cursors rely on it (docs/claiming.md).
-- Returns the ids that were refused, and a null for each queue whose idle workers it notifies. Index: job_pkey. Locks: the rows that it updates.
WITH outcome AS MATERIALIZED (
    SELECT id, attempt, elapsed, delay, outcome, counts, error_type, message, traceback
      FROM unnest($2::uuid[], $3::integer[], $4::float8[], $5::interval[], $6::text[], $7::boolean[], $8::text[],
                  $9::text[], $10::text[])
           AS given (id, attempt, elapsed, delay, outcome, counts, error_type, message, traceback)
), back AS (
    UPDATE rowlock.job
       SET state = 'queued', worker = NULL, started_at = NULL,
           -- seam: delay
           run_at = clock_timestamp() + (SELECT delay FROM outcome WHERE outcome.id = job.id AND outcome.attempt = job.attempt),
           errors = least(errors, 2147483646) + (SELECT counts::integer FROM outcome WHERE outcome.id = job.id AND outcome.attempt = job.attempt),
           ends_at = CASE WHEN cancel_requested_at IS NOT NULL THEN '-infinity'
                          WHEN (SELECT outcome.elapsed FROM outcome WHERE outcome.id = job.id AND outcome.attempt = job.attempt) IS NULL THEN ends_at
                          ELSE deadline END,  -- seam: deadline of a retry
           error = coalesce((SELECT left(nullif(concat_ws(': ', error_type, message), ''), 1000)
                               FROM outcome WHERE outcome.id = job.id AND outcome.attempt = job.attempt AND counts), error)
     WHERE {{own_attempts}}
       AND pg_current_xact_id() IS NOT NULL
    RETURNING id, attempt, queue, task
), told AS (  -- seam: again
    INSERT INTO rowlock.attempt ({{attempt_columns}})
    SELECT back.id, back.attempt, outcome.outcome, back.queue, back.task, $1,
           now() - coalesce(outcome.elapsed, 0) * interval '1 second', now(),
           outcome.error_type, outcome.message, outcome.traceback
      FROM back
      JOIN outcome ON outcome.id = back.id AND outcome.attempt = back.attempt
)
SELECT id FROM outcome
EXCEPT
SELECT id FROM back
 UNION ALL
SELECT nullif(pg_notify('rowlock.wakeup', idle.queue)::text, '')::uuid
  FROM (SELECT DISTINCT queue FROM rowlock.idle_worker) AS idle
 WHERE idle.queue = ANY(ARRAY(SELECT back.queue FROM back))
