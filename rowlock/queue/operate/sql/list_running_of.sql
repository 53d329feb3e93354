-- The hundred oldest jobs, by their start, that a worker runs or has claimed ahead.
--
-- $1 the worker. Index: holding_pkey, job_pkey. Takes no lock.
SELECT {{live_job}},
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = job.task), false) AS is_sensitive
  FROM rowlock.job
 WHERE id = ANY(ARRAY({{held_ids}} WHERE holding.worker = $1::uuid)) AND worker = $1::uuid
 ORDER BY started_at, id
 LIMIT 100
