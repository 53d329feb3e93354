-- Remove expired workers that have no job any more, and idle marks of workers that are gone.
--
-- Index: worker_pkey, job_running. Locks: the removed rows. A worker that comes back finds its row gone, and begins a new
-- lease.
WITH forgotten AS (
    DELETE FROM rowlock.worker
     WHERE expires_at < now() - interval '1 second'  -- seam: forgotten
       AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.state = 'running' AND job.worker = worker.id)
    RETURNING id
)
DELETE FROM rowlock.idle_worker
 WHERE NOT EXISTS (SELECT FROM rowlock.worker WHERE worker.id = idle_worker.worker AND worker.expires_at >= now())
