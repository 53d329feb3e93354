-- Due jobs that no live worker would claim: of a task that none knows, or in a queue that none serves. $1 how many kinds.
-- Groups the live table, which it reads whole, then looks at the few workers.
SELECT kind.task, kind.queue, kind.jobs
  FROM (
       SELECT task, queue, count(*) AS jobs
         FROM rowlock.job
        WHERE state = 'queued' AND run_at <= now()
        GROUP BY task, queue
       ) AS kind
 WHERE NOT EXISTS (
       SELECT
         FROM rowlock.worker
        WHERE worker.expires_at > clock_timestamp()
          AND kind.task = ANY(worker.tasks)
          AND kind.queue = ANY(worker.queues)
       )
 ORDER BY kind.jobs DESC, kind.task, kind.queue
 LIMIT $1::integer
