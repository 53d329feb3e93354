-- When the next job that is not due yet falls due, in the given queues: null if there is none. Run when a queue is empty.
--
-- $1 queues text[]. Returns the wait from now on as an interval. Index: job_claim, one probe a (queue, priority).
SELECT min(due.run_at) - clock_timestamp() AS wait
  FROM unnest($1::text[]) AS wanted (queue)
 CROSS JOIN generate_series(0, 9) AS level (priority)
 CROSS JOIN LATERAL (
       SELECT job.run_at
         FROM rowlock.job
        WHERE job.state = 'queued'
          AND job.queue = wanted.queue
          AND job.priority = level.priority::smallint
          AND job.run_at > now()
        ORDER BY job.run_at, job.id
        LIMIT 1
       ) AS due
