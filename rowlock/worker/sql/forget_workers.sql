-- Remove workers that have no job any more a minute after their leases ran out, and idle marks of workers that are gone.
-- A worker that comes back within the minute finds its orders in the row (register_worker.sql).
--
-- Index: worker_pkey, job_running. Locks: the removed rows. A worker that comes back finds its row gone, and begins a new
-- lease.
WITH forgotten AS (
    DELETE FROM rowlock.worker
     WHERE expires_at < now() - interval '1 minute'
       AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.state = 'running' AND job.worker = worker.id)
    RETURNING id
)
DELETE FROM rowlock.idle_worker
 WHERE NOT EXISTS (SELECT FROM rowlock.worker WHERE worker.id = idle_worker.worker AND worker.expires_at >= now())
