-- Mark a worker as idle: from now on an enqueue to one of these queues notifies. $1 the worker   $2 queues
INSERT INTO rowlock.idle_worker (queue, worker) SELECT queue, $1::uuid FROM unnest($2::text[]) AS given (queue)
ON CONFLICT DO NOTHING
