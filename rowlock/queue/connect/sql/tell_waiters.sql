-- Notify the waiters of these jobs, if there are any: for statements that end jobs without a finish.
--
-- $1 ids uuid[]   Index: waiter_pkey.
SELECT pg_notify('rowlock.finished', waiter.job_id::text)
  FROM rowlock.waiter
 WHERE waiter.job_id = ANY($1::uuid[])
