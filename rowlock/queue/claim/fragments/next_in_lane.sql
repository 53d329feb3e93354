-- When the next waiting job of a lane falls due that is not due yet.
SELECT job.run_at
  FROM rowlock.job
 WHERE job.state = 'queued'
   AND job.queue = lane.queue
   AND job.priority = lane.priority
   AND job.run_at > now()
   AND job.run_at < 'infinity'
 ORDER BY job.run_at, job.id
 LIMIT 1
