-- Notify the workers that sleep on the given queues, if there are any. A NOTIFY makes the commit take a lock of the
-- whole server, so it is sent only if a worker listens.
--
-- $1 queues text[]
SELECT pg_notify('rowlock.wakeup', queue)
  FROM unnest($1::text[]) AS given (queue)
 WHERE EXISTS (SELECT FROM rowlock.idle_worker AS w WHERE w.queue = given.queue)
