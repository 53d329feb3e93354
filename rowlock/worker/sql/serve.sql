-- Store the queues that a worker serves now. $1 the worker   $2 queues text[]. Index: worker_pkey. Locks: its row.
UPDATE rowlock.worker SET queues = $2::text[] WHERE id = $1::uuid
