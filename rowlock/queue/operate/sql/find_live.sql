-- The live jobs that a filter means, of which no cancel is requested yet: the next ones in the order of their ids.
--
-- $1 to $17 the filter, as in list_jobs.sql   $18 only ids above this one (the last that was found)   $19 how many
-- $20 only jobs created by then: a bulk act does not run after what comes in meanwhile   $21 the stored states that are meant text[]
-- $22 how long it may look interval: then come jobs whose `fits` is null, which were not looked at
--
-- Reads the live jobs alone; what the view `jobs` calls a state is spelled out for that. Index: job_pkey.
SELECT id, fits
  FROM (
       SELECT id,
              CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $22::interval) THEN coalesce(
                      ($1::text IS NULL OR $1::text = CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
                                                           WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
                                                           ELSE state
                                                      END)
                  AND ($2::text[] IS NULL OR queue = ANY($2::text[]))
                  AND ($3::text IS NULL OR task = $3::text)
                  AND ($6::interval IS NULL OR created_at < now() - $6::interval)
                  AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
                  AND ($11::text IS NULL OR $11::text = ANY(tags))  -- seam: tag
                  AND ($17::text IS NULL OR metadata @> $17::text::jsonb)
                  AND ($13::timestamptz IS NULL OR created_at >= $13::timestamptz)
                  AND ($14::timestamptz IS NULL OR created_at < $14::timestamptz)
                  AND ($15::text[] IS NULL OR task <> ALL($15::text[]))
                  AND $10::boolean IS NOT TRUE
                  AND state = ANY($21::text[])
                  AND cancel_requested_at IS NULL
                  AND created_at <= $20::timestamptz
                  AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
                  AND ($16::text IS NULL OR rowlock.error_kind(error) = rowlock.error_kind($16::text))
                  AND ($9::text IS NULL OR args @> $9::text::jsonb)
                  AND ($12::text[] IS NULL OR lower(args::text) LIKE ANY(ARRAY(SELECT lower(text) FROM unnest($12::text[]) AS text)))
                  , false)
              END AS fits
         FROM (
              SELECT id, state, errors, attempt, run_at, queue, task, created_at, error, args, tags, metadata, cancel_requested_at
                FROM rowlock.job
               WHERE id > greatest($4::uuid, $18::uuid) AND id < $5::uuid
               ORDER BY id
              ) AS seen
        ORDER BY id
       ) AS looked
 WHERE fits IS NOT FALSE
 ORDER BY id
 LIMIT $19::integer
