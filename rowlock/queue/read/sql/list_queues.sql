-- The known queues: those that have a row in `queue` (an operator's setting), a task, a worker, or live jobs. For each: its
-- settings, its jobs by state, and how many live workers claim its jobs (quiet and stopping ones do not).
--
-- $1 only this queue, whether it is known or not, or null   $2 null, or the number of live jobs (bigint) from which it uses the
-- last sample of the backlog, if that is less than ten minutes old and names every queue. Otherwise it reads all live jobs
-- (with $1 too): for people, not for programs that poll every second. Takes no lock.
WITH newest AS MATERIALIZED (
    SELECT at, taken_at, waiting + scheduled + running AS jobs
      FROM rowlock.backlog
     WHERE step = 60 AND at > now() - interval '10 minutes' AND queue = '*'
     ORDER BY at DESC
     LIMIT 1
), total AS MATERIALIZED (
    SELECT at, taken_at
      FROM newest
     WHERE jobs >= $2::bigint
       AND NOT EXISTS (
           SELECT FROM rowlock.backlog AS other
            WHERE other.step = 60 AND other.at = newest.at AND other.queue = '+' AND other.taken_at = newest.taken_at
           )
), sampled AS MATERIALIZED (
    SELECT backlog.queue AS name, waiting, scheduled, running, 0::bigint AS blocked, oldest_due_at
      FROM rowlock.backlog, total
     WHERE backlog.step = 60 AND backlog.at = total.at AND backlog.taken_at = total.taken_at AND backlog.queue <> '*'
), counted AS MATERIALIZED (
    SELECT name, waiting, scheduled, running, blocked, oldest_due_at FROM sampled WHERE $1::text IS NULL OR name = $1::text
     UNION ALL
    SELECT queue AS name,
           count(*) FILTER (WHERE state = 'queued' AND run_at <= now()) AS waiting,
           count(*) FILTER (WHERE state = 'queued' AND run_at > now()) AS scheduled,
           count(*) FILTER (WHERE state = 'running') AS running,
           count(*) FILTER (WHERE state = 'blocked') AS blocked,
           min(run_at) FILTER (WHERE state = 'queued' AND run_at <= now()) AS oldest_due_at
      FROM rowlock.job
     WHERE ($1::text IS NULL OR queue = $1::text) AND NOT EXISTS (SELECT FROM total)
     GROUP BY queue
), served AS MATERIALIZED (
    SELECT served.name, count(*) AS workers
      FROM rowlock.worker
     CROSS JOIN LATERAL unnest(worker.queues) AS served (name)
     WHERE worker.expires_at > clock_timestamp() AND worker.followed_by IS NULL AND worker.state = 'running' AND served.name IS NOT NULL
     GROUP BY served.name
), known AS MATERIALIZED (
    SELECT name FROM rowlock.queue WHERE name <> '*'
     UNION
    SELECT queue FROM rowlock.task
     UNION
    SELECT name FROM counted
     UNION
    SELECT name FROM served
     UNION
    SELECT $1::text WHERE $1 IS NOT NULL
)
SELECT known.name, said.paused_at, said.concurrency, coalesce(counted.waiting, 0) AS waiting,
       coalesce(counted.scheduled, 0) AS scheduled, coalesce(counted.running, 0) AS running,
       coalesce(counted.blocked, 0) AS blocked, counted.oldest_due_at, coalesce(served.workers, 0) AS workers
  FROM known
  LEFT JOIN rowlock.queue AS said ON said.name = known.name
  LEFT JOIN counted ON counted.name = known.name
  LEFT JOIN served ON served.name = known.name
 WHERE $1::text IS NULL OR known.name = $1::text
 ORDER BY known.name
