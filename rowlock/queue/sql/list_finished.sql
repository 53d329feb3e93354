-- A page of finished jobs that did not succeed, newest first: the dead letters among them.
--
-- $1 to $10 the filter, as in list_jobs.sql; the state is needed   $11 only ids below this one (the last of the page before)
-- $12 how many
--
-- Index: finished_job_unsuccessful of each partition, backwards.
SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout, result, error,
       created_at, run_at, started_at, finished_at, worker, discarded_at
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
   AND ($11::uuid IS NULL OR id < $11::uuid)
 ORDER BY id DESC
 LIMIT $12::integer
