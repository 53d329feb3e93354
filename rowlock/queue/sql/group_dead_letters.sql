-- The dead letters by task and error: how many of each, and when the first and the last of them ended.
--
-- $1 to $17 the filter, as in list_jobs.sql   $18 how many groups at most, or null   $19 the tasks whose errors are not told apart text[]
-- $20 that ended from then on   $21 and before then
-- Looks at the newest 50,000 dead letters. Their kinds are made of the lines that differ: it takes 5 us for each.
-- Index: finished_job_unsuccessful of each partition, merged, backwards.
SELECT task, CASE WHEN task = ANY($19::text[]) THEN '' ELSE rowlock.error_kind(line) END AS error,
       task = ANY($19::text[]) AS is_sensitive, sum(jobs)::bigint AS jobs,
       min(first_at) AS first_at, max(last_at) AS last_at
  FROM (
       SELECT task, left(split_part(coalesce(error, ''), E'\n', 1), 200) AS line, count(*) AS jobs,
              min(finished_at) AS first_at, max(finished_at) AS last_at
         FROM (
              SELECT queue, task, error, args, tags, metadata, created_at, finished_at, discarded_at
                FROM rowlock.finished_job
               WHERE state = $1::text AND state <> 'succeeded' AND id > $4::uuid AND id < $5::uuid
                 AND finished_at >= $20::timestamptz AND finished_at < $21::timestamptz
               ORDER BY id DESC
               LIMIT 50000
              ) AS seen
        WHERE true
          AND ($2::text[] IS NULL OR queue = ANY($2::text[]))
          AND ($3::text IS NULL OR task = $3::text)
          AND ($6::interval IS NULL OR created_at < now() - $6::interval)
          AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
          AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
          AND ($16::text IS NULL OR rowlock.error_kind(error) = rowlock.error_kind($16::text))
          AND ($9::text IS NULL OR args @> $9::text::jsonb)
          AND ($11::text IS NULL OR $11::text = ANY(tags))
          AND ($17::text IS NULL OR metadata @> $17::text::jsonb)
          AND ($12::text[] IS NULL OR lower(args::text) LIKE ANY(ARRAY(SELECT lower(text) FROM unnest($12::text[]) AS text)))
          AND ($13::timestamptz IS NULL OR created_at >= $13::timestamptz)
          AND ($14::timestamptz IS NULL OR created_at < $14::timestamptz)
          AND ($15::text[] IS NULL OR task <> ALL($15::text[]))
          AND ($10::boolean IS NULL OR (discarded_at IS NOT NULL) = $10::boolean)
        GROUP BY 1, 2
       ) AS by_line
 GROUP BY 1, 2, 3
 ORDER BY jobs DESC, last_at DESC
 LIMIT $18::integer
