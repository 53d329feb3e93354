-- Mark a worker as busy: it finds jobs by polling, so enqueues need not notify it. $1 the worker
DELETE FROM rowlock.idle_worker WHERE worker = $1::uuid
