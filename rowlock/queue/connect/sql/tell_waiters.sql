-- Notify those who wait for one of these jobs, if anybody does: for whatever ends jobs other than by a finish.
--
-- $1 ids uuid[]   Index: waiter_pkey.
SELECT pg_notify('rowlock.finished', waiter.job_id::text)
  FROM rowlock.waiter
 WHERE waiter.job_id = ANY($1::uuid[])
