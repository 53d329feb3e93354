-- The dead letters by task and error: how many of each, and when the first and the last of them ended.
--
-- $1 to $10 the filter, as in list_jobs.sql   $11 how many groups at most
-- Of the error its first line counts, up to 200 characters. Index: finished_job_unsuccessful of each partition.
SELECT task, left(split_part(coalesce(error, ''), E'\n', 1), 200) AS error, count(*) AS jobs,
       min(finished_at) AS first_at, max(finished_at) AS last_at
  FROM rowlock.finished_job
 WHERE state = $1::text AND state <> 'succeeded'
   AND ($2::text IS NULL OR queue = $2::text)
   AND ($3::text IS NULL OR task = $3::text)
   AND ($4::uuid IS NULL OR id > $4::uuid)
   AND ($5::uuid IS NULL OR id < $5::uuid)
   AND ($6::interval IS NULL OR created_at < now() - $6::interval)
   AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
   AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
   AND ($9::text IS NULL OR args @> $9::text::jsonb)
   AND ($10::boolean IS NULL OR (discarded_at IS NOT NULL) = $10::boolean)
 GROUP BY 1, 2
 ORDER BY jobs DESC, last_at DESC
 LIMIT $11::integer
