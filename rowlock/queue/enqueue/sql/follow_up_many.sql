-- Complete a bulk enqueue, in its transaction: notify the workers that sleep on its queues, like wake.sql, and find finished
-- jobs that may be among its jobs.
--
-- $1 queues text[]   $2 the lowest of the ids, $3 the highest   $4 how many finished jobs to return at most
--
-- Returns the ids of finished jobs in this range, of any caller; also nulls. Locks nothing for long.
SELECT finished.id FROM rowlock.finished_between($2::uuid, $3::uuid, $4::integer) AS finished (id)
UNION ALL
SELECT NULL
  FROM (
       SELECT pg_notify('rowlock.wakeup', queue)
         FROM unnest($1::text[]) AS given (queue)
        WHERE EXISTS (SELECT FROM rowlock.idle_worker AS w WHERE w.queue = given.queue)
       OFFSET 0
       ) AS woken
