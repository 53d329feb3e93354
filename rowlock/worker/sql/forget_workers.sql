-- Remove workers that have no job any more a minute after their leases ran out, and idle marks of workers that are gone.
-- A worker that comes back within the minute finds its orders in the row (register_worker.sql).
--
-- First what they held, if none of it is still theirs. A claim that commits meanwhile, after its worker's lease has run out,
-- changes no such row, and adds its own, which stays.
--
-- Index: worker_pkey, holding_pkey, job_pkey. Locks: the removed rows. A worker that comes back finds its row gone, and
-- begins a new lease.
WITH over AS MATERIALIZED (
    SELECT holding.worker, holding.number
      FROM rowlock.holding
     WHERE NOT EXISTS (SELECT FROM rowlock.worker WHERE worker.id = holding.worker AND worker.expires_at >= now())
       AND NOT EXISTS (SELECT FROM rowlock.job WHERE job.id = ANY(holding.ids) AND job.worker = holding.worker)
), freed AS (
    DELETE FROM rowlock.holding USING over WHERE holding.worker = over.worker AND holding.number = over.number
), forgotten AS (
    DELETE FROM rowlock.worker
     WHERE expires_at < now() - interval '1 minute'
       AND NOT EXISTS (
           SELECT FROM rowlock.holding
            WHERE holding.worker = worker.id
              AND NOT (holding.worker, holding.number) IN (SELECT over.worker, over.number FROM over)
           )
    RETURNING id
)
DELETE FROM rowlock.idle_worker
 WHERE NOT EXISTS (SELECT FROM rowlock.worker WHERE worker.id = idle_worker.worker AND worker.expires_at >= now())
