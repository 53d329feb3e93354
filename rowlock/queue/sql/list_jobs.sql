-- A page of jobs, newest first (ids sort by time). Each filter may be null.
--
-- $1 state   $2 queue   $3 task   $4 only ids above this one   $5 only ids below this one   $6 created longer ago than
-- $7 created not longer ago than   $8 text in the error   $9 JSON text that the arguments contain   $10 whether discarded
-- $11 only ids below this one (the last of the page before)   $12 how many
SELECT id, state, queue, task, priority, args_version, args, attempt, max_attempts, errors, crashes, unique_key, timeout, result, error,
       created_at, run_at, started_at, finished_at, worker, expires_at, deadline, cancel_requested_at, discarded_at
  FROM rowlock.jobs
 WHERE ($1::text IS NULL OR state = $1::text)
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
