-- The first hundred jobs that a worker runs or has claimed ahead, those that began first.
--
-- $1 the worker. Index: job_running. Takes no lock.
SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout,
       NULL::jsonb AS result, error, created_at, run_at, started_at, NULL::timestamptz AS finished_at, worker, expires_at,
       deadline, cancel_requested_at, NULL::timestamptz AS discarded_at, tags, metadata,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = job.task), false) AS is_sensitive
  FROM rowlock.job
 WHERE state = 'running' AND worker = $1::uuid
 ORDER BY started_at, id
 LIMIT 100
