-- This worker has work enough to find more by itself: enqueues need not notify for its sake. $1 the worker
DELETE FROM rowlock.idle_worker WHERE worker = $1::uuid
