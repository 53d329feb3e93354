-- The queues with live jobs and the queues that tasks name, for a worker to match with its wildcards.
--
-- No parameters. Index: job_claim, one probe a queue, however many jobs it has. Takes no lock.
WITH RECURSIVE waiting AS (
    (SELECT queue FROM rowlock.job WHERE run_at < 'infinity' ORDER BY queue LIMIT 1)
     UNION ALL
    SELECT next.queue
      FROM waiting
     CROSS JOIN LATERAL (
           SELECT job.queue
             FROM rowlock.job
            WHERE job.run_at < 'infinity' AND job.queue > waiting.queue
            ORDER BY job.queue
            LIMIT 1
           ) AS next
)
SELECT queue FROM waiting
 UNION
SELECT queue FROM rowlock.task
