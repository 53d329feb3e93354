-- A page of live jobs, newest first: of those that wait, or all.
--
-- $1 to $17 the filter, as in list_jobs.sql   $18 how many. Looks at 20,000 jobs at most, as list_jobs.sql does.
-- $19 whether with arguments and results: what is not asked for is not even read
-- $20 how long it may look interval: see list_jobs.sql
-- Index: job_pkey, backwards, and no further than needed.
WITH found AS MATERIALIZED (
    SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout,
           result, error, created_at, run_at, started_at, finished_at, worker, expires_at, deadline, cancel_requested_at,
           discarded_at, tags, metadata, fits
      FROM (
           SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout,
                  result, error, created_at, run_at, started_at, finished_at, worker, expires_at, deadline, cancel_requested_at,
                  discarded_at, tags, metadata,
                  CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $20::interval) THEN coalesce(
                          ($1::text IS NULL OR state = $1::text)
                      AND ($2::text[] IS NULL OR queue = ANY($2::text[]))
                      AND ($3::text IS NULL OR task = $3::text)
                      AND ($6::interval IS NULL OR created_at < now() - $6::interval)
                      AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
                      AND ($11::text IS NULL OR $11::text = ANY(tags))
                      AND ($17::text IS NULL OR metadata @> $17::text::jsonb)
                      AND ($13::timestamptz IS NULL OR created_at >= $13::timestamptz)
                      AND ($14::timestamptz IS NULL OR created_at < $14::timestamptz)
                      AND ($15::text[] IS NULL OR task <> ALL($15::text[]))
                      AND ($10::boolean IS NULL OR (discarded_at IS NOT NULL) = $10::boolean)
                      AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
                      AND ($16::text IS NULL OR rowlock.error_kind(error) = rowlock.error_kind($16::text))
                      AND ($9::text IS NULL OR args @> $9::text::jsonb)
                      AND ($12::text[] IS NULL OR lower(args::text) LIKE ANY(ARRAY(SELECT lower(text) FROM unnest($12::text[]) AS text)))
                      , false)
                  END AS fits
             FROM (
                  SELECT id,
                        CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
                             WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
                             ELSE state
                        END AS state,
                        queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key,
                        timeout, NULL::jsonb AS result, error, created_at, run_at, started_at,
                        NULL::timestamptz AS finished_at, worker, expires_at, deadline, cancel_requested_at,
                        NULL::timestamptz AS discarded_at, tags, metadata
                   FROM rowlock.job
                   WHERE id > $4::uuid AND id < $5::uuid
                   ORDER BY id DESC
                   LIMIT 20000
                  ) AS seen
            ORDER BY id DESC
           ) AS looked
     WHERE fits IS NOT FALSE
     ORDER BY id DESC
     LIMIT $18::integer
), ended AS (
    (SELECT id, created_at FROM found WHERE fits IS NULL ORDER BY id DESC LIMIT 1)
     UNION ALL
    (
    SELECT id, created_at
      FROM (
           SELECT id, created_at FROM rowlock.job WHERE id > $4::uuid AND id < $5::uuid
           ) AS seen
     ORDER BY id DESC
    OFFSET 20000
     LIMIT 1
    )
)
SELECT id, state, queue, task, priority, args_version,
       CASE WHEN $19::boolean THEN args ELSE '{}' END AS args, attempt, max_attempts, errors, crashes, unique_key, timeout,
       result, error, created_at, run_at, started_at, finished_at, worker, expires_at, deadline, cancel_requested_at,
       discarded_at, tags, metadata,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = found.task), false) AS is_sensitive,
       false AS is_end
  FROM found
 WHERE fits
 UNION ALL
SELECT id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, created_at, NULL, NULL, NULL,
       NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, true
  FROM ended
 WHERE (SELECT count(*) FROM found WHERE fits) < $18::integer
 ORDER BY id DESC
