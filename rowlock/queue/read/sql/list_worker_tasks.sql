-- The tasks that a worker knows, by name.
--
-- $1 the worker. Index: worker_pkey. Takes no lock.
SELECT DISTINCT split_part(known.name, '@', 1) AS name
  FROM rowlock.worker
 CROSS JOIN LATERAL unnest(worker.tasks) AS known (name)
 WHERE worker.id = $1::uuid
 ORDER BY name
