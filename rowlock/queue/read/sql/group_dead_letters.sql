-- The dead letters by task and error: how many of each, and when the first and the last of them ended.
--
-- $1 to $17 the filter, as in list_jobs.sql   $18 how many groups at most, or null   $19 the tasks whose errors are not told apart text[]
-- $20 that ended from then on   $21 and before then
-- $22 how long it may look interval: if that was not enough, one more row says how far back it looked (searched_until)
-- Looks at the newest 50,000 dead letters. Their kinds are made of the lines that differ: it takes 5 us for each.
-- Index: finished_job_unsuccessful of each partition, merged, backwards.
WITH looked AS MATERIALIZED (
    SELECT id, created_at, finished_at, task, fits,
           CASE WHEN fits THEN left(split_part(coalesce(error, ''), E'\n', 1), 200) END AS line
      FROM (
           SELECT id, created_at, finished_at, task, error,
                  CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $22::interval) THEN coalesce(
                          ($2::text[] IS NULL OR queue = ANY($2::text[]))
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
                  SELECT id, queue, task, error, args, tags, metadata, created_at, finished_at, discarded_at
                    FROM rowlock.finished_job
                   WHERE state = $1::text AND state <> 'succeeded' AND id > $4::uuid AND id < $5::uuid
                     AND finished_at >= $20::timestamptz AND finished_at < $21::timestamptz
                   ORDER BY id DESC
                   LIMIT 50000
                  ) AS seen
            ORDER BY id DESC
           ) AS every
     WHERE fits IS NOT FALSE
), by_line AS MATERIALIZED (
    SELECT task, line, count(*) AS jobs, min(finished_at) AS first_at, max(finished_at) AS last_at
      FROM looked
     WHERE fits
     GROUP BY task, line
), by_kind AS MATERIALIZED (
    SELECT task, CASE WHEN task = ANY($19::text[]) THEN '' ELSE rowlock.error_kind(line) END AS error,
           task = ANY($19::text[]) AS is_sensitive, sum(jobs)::bigint AS jobs,
           min(first_at) AS first_at, max(last_at) AS last_at
      FROM by_line
     GROUP BY 1, 2, 3
)
(
SELECT task, error, is_sensitive, jobs, first_at, last_at, NULL::timestamptz AS searched_until
  FROM by_kind
 ORDER BY jobs DESC, last_at DESC
 LIMIT $18::integer
)
 UNION ALL
(
SELECT NULL, NULL, NULL, NULL, NULL, NULL, created_at
  FROM looked
 WHERE fits IS NULL
 ORDER BY id DESC
 LIMIT 1
)
