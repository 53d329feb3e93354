-- The finished jobs that a filter means, and that did not succeed: the next ones in the order of their ids.
--
-- $1 to $10 the filter, as in list_jobs.sql   $11 only ids above this one (the last that was found)   $12 how many
-- $13 only jobs finished by then: a bulk act does not run after what fails meanwhile
--
-- Index: finished_job_unsuccessful of each partition.
SELECT id
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
   AND id > $11::uuid
   AND finished_at <= $13::timestamptz
 ORDER BY id
 LIMIT $12::integer
