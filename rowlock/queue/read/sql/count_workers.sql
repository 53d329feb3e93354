-- Count the live workers. $1 only those that serve one of these queues text[], or null. Takes no lock.
SELECT count(*) AS workers
  FROM rowlock.worker
 WHERE expires_at > clock_timestamp() AND followed_by IS NULL AND ($1::text[] IS NULL OR queues && $1::text[])
