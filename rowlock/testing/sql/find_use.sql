-- Find signs that the schema is in use rather than a test's. $1 the worker that may be there uuid
--
-- Returns one row: a worker with a live lease (its host and process), or null; and the age of the oldest job by its id
-- (a UUID of version 7 begins with milliseconds), regardless of the times in its row, or null.
-- Index: worker_pkey, job_pkey, finished_job_id. Locks: none.
SELECT (SELECT format('%s, process %s', hostname, pid)
          FROM rowlock.worker
         WHERE expires_at > now() AND id <> $1::uuid
         LIMIT 1) AS worker,
       (SELECT clock_timestamp() - to_timestamp(('x' || left(replace(oldest.id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
          FROM (
               (SELECT id FROM rowlock.job WHERE substr(id::text, 15, 1) = '7' ORDER BY id LIMIT 1)
                UNION ALL
               (SELECT id FROM rowlock.finished_job WHERE substr(id::text, 15, 1) = '7' ORDER BY id LIMIT 1)
               ) AS oldest
         ORDER BY oldest.id
         LIMIT 1) AS age
