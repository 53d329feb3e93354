-- The live jobs that a filter means, of which no cancel is requested yet: the next ones in the order of their ids.
--
-- $1 to $10 the filter, as in list_jobs.sql   $11 only ids above this one (the last that was found)   $12 how many
-- $13 only jobs created by then: a bulk act does not run after what comes in meanwhile
--
-- Reads the live jobs alone; what the view `jobs` calls a state is spelled out for that. Index: job_pkey.
SELECT id
  FROM rowlock.job
 WHERE ($1::text IS NULL OR $1::text = CASE WHEN state = 'queued' AND errors > 0 THEN 'retrying'
                                            WHEN state = 'queued' AND attempt = 0 AND run_at > statement_timestamp() THEN 'scheduled'
                                            ELSE state
                                       END)
   AND ($2::text IS NULL OR queue = $2::text)
   AND ($3::text IS NULL OR task = $3::text)
   AND ($4::uuid IS NULL OR id > $4::uuid)
   AND ($5::uuid IS NULL OR id < $5::uuid)
   AND ($6::interval IS NULL OR created_at < now() - $6::interval)
   AND ($7::interval IS NULL OR created_at >= now() - $7::interval)
   AND ($8::text IS NULL OR strpos(error, $8::text) > 0)
   AND ($9::text IS NULL OR args @> $9::text::jsonb)
   AND $10::boolean IS NOT TRUE
   AND id > $11::uuid
   AND cancel_requested_at IS NULL
   AND created_at <= $13::timestamptz
 ORDER BY id
 LIMIT $12::integer
