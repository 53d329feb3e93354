-- The ids of $2 whose outcome was refused, and a null row for the notification of each awaited job.
SELECT id FROM outcome
EXCEPT
SELECT id FROM gone
 UNION ALL
SELECT nullif(pg_notify('rowlock.finished', waiter.job_id::text)::text, '')::uuid
  FROM rowlock.waiter
 WHERE EXISTS (SELECT FROM rowlock.waiter)
   AND waiter.job_id = ANY($2::uuid[])
