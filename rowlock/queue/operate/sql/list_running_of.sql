-- The hundred oldest jobs, by their start, that a worker runs or has claimed ahead.
--
-- $1 the worker. Index: job_running. Takes no lock.
SELECT {{live_job}},
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = job.task), false) AS is_sensitive
  FROM rowlock.job
 WHERE state = 'running' AND worker = $1::uuid
 ORDER BY started_at, id
 LIMIT 100
