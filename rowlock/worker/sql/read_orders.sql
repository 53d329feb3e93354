-- Operators' orders for one worker and its queues: a row for each queue with an order, or one row whose queue is null.
-- Returns no row if the worker's own row is gone.
--
-- $1 the worker   $2 its queues text[]. Index: worker_pkey, queue_pkey. Takes no lock.
SELECT w.state, w.concurrency, q.name AS queue, q.paused_at IS NOT NULL AS is_paused, q.concurrency AS queue_concurrency
  FROM rowlock.worker AS w
  LEFT JOIN LATERAL (
       SELECT name, paused_at, concurrency
         FROM rowlock.queue
        WHERE name = ANY($2::text[])
          AND (paused_at IS NOT NULL OR concurrency IS NOT NULL)
       ) AS q ON true
 WHERE w.id = $1::uuid
