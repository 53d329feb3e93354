-- A page of jobs, newest first (ids sort by time). Each filter may be null.
--
-- $1 state   $2 queue   $3 task   $4 only ids below this one (the last of the page before)   $5 how many
SELECT id, state, queue, task, priority, args, attempt, max_attempts, errors, crashes, unique_key, timeout, result, error,
       created_at, run_at, started_at, finished_at, worker, expires_at, deadline
  FROM rowlock.jobs
 WHERE ($1::text IS NULL OR state = $1::text)
   AND ($2::text IS NULL OR queue = $2::text)
   AND ($3::text IS NULL OR task = $3::text)
   AND ($4::uuid IS NULL OR id < $4::uuid)
 ORDER BY id DESC
 LIMIT $5::integer
