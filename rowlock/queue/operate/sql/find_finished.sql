-- The finished jobs that a filter means, and that did not succeed: the next ones in the order of their ids.
--
-- $1 to $17 the filter, as in list_jobs.sql   $18 only ids above this one (the last that was found)   $19 how many
-- $20 only jobs finished by then: a bulk act does not run after what fails meanwhile
-- $21 that ended from then on, $22 and before then: run it under force_custom_plan, so that other partitions are not locked
-- $23 how long it may look interval: then come jobs whose `fits` is null, which were not looked at
--
-- Index: finished_job_unsuccessful of each of these partitions.
SELECT id, finished_at, fits
  FROM (
       SELECT id, finished_at,
              CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $23::interval) THEN coalesce(
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
              SELECT id, finished_at, queue, task, created_at, error, args, tags, metadata, discarded_at
                FROM rowlock.finished_job
               WHERE state = $1::text AND state <> 'succeeded'
                 AND id > greatest($4::uuid, $18::uuid) AND id < $5::uuid
                 AND finished_at <= $20::timestamptz
                 AND finished_at >= $21::timestamptz AND finished_at < $22::timestamptz
               ORDER BY id
              ) AS seen
        ORDER BY id
       ) AS looked
 WHERE fits IS NOT FALSE
 ORDER BY id
 LIMIT $19::integer
