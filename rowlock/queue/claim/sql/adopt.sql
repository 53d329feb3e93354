-- The jobs that this worker has claimed without knowing it: the claim committed, but its answer was lost.
--
-- $1 the worker   $2 the ids of the jobs that it knows of uuid[]
--
-- Returns the same columns as claim.sql. Where a cancel was requested meanwhile, ends_at is a time in the past and not
-- '-infinity', because Python cannot compare times with that.
--
-- Index: holding_pkey, job_pkey. Takes no lock: no other worker touches a live worker's jobs.
SELECT {{claimed_columns}},
       CASE WHEN ends_at IS NOT NULL THEN ARRAY[greatest(ends_at, created_at), expires_at, deadline, now()] END AS times,
       NULL::bigint AS number
  FROM rowlock.job
 WHERE id = ANY(ARRAY({{held_ids}} WHERE holding.worker = $1::uuid))
   AND worker = $1::uuid
   AND id <> ALL($2::uuid[])
 ORDER BY priority DESC, run_at, id
