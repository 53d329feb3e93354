-- The queues that anybody knows of: an operator has said something of it, a task names it, a worker serves it, or it has
-- live jobs. What was said, what its jobs do, and how many live workers serve it.
--
-- $1 one queue alone, whether it is known or not, or null. Reads all live jobs (with $1 too): for people, not for programs
-- that ask every second. Takes no lock.
WITH counted AS MATERIALIZED (
    SELECT queue AS name,
           count(*) FILTER (WHERE state = 'queued' AND run_at <= now()) AS waiting,
           count(*) FILTER (WHERE state = 'queued' AND run_at > now()) AS scheduled,
           count(*) FILTER (WHERE state = 'running') AS running,
           count(*) FILTER (WHERE state = 'blocked') AS blocked,
           min(run_at) FILTER (WHERE state = 'queued' AND run_at <= now()) AS oldest_due_at
      FROM rowlock.job
     WHERE $1::text IS NULL OR queue = $1::text
     GROUP BY queue
), served AS MATERIALIZED (
    SELECT served.name, count(*) AS workers
      FROM rowlock.worker
     CROSS JOIN LATERAL unnest(worker.queues) AS served (name)
     WHERE worker.expires_at > clock_timestamp()
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
