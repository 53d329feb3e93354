-- What follows the rows of many new jobs, in their transaction: the workers that sleep on their queues are notified, as
-- wake.sql does it, and finished jobs are found that may be among them.
--
-- $1 queues text[]   $2 the lowest of the ids, $3 the highest   $4 how many finished jobs to return at the most
--
-- Returns the ids of finished jobs in this range, of whoever enqueued them; nulls besides. Locks nothing for long.
SELECT finished.id FROM rowlock.finished_between($2::uuid, $3::uuid, $4::integer) AS finished (id)
UNION ALL
SELECT NULL
  FROM (
       SELECT pg_notify('rowlock.wakeup', queue)
         FROM unnest($1::text[]) AS given (queue)
        WHERE EXISTS (SELECT FROM rowlock.idle_worker AS w WHERE w.queue = given.queue)
       OFFSET 0
       ) AS woken
