-- The workers with a valid lease, oldest first. No parameters.
SELECT id, hostname, pid, version, queues, concurrency, state
  FROM rowlock.worker
 WHERE expires_at > clock_timestamp() AND followed_by IS NULL
 ORDER BY id
