-- Tell the workers that listen, busy or asleep, that an operator has said something of a queue or a worker, so that they
-- heed it at once and not only within a second. Sent by people's acts alone, since a NOTIFY takes a lock of the whole server.
--
-- $1 the queue, or the worker's id
SELECT pg_notify('rowlock.wakeup', 'operate:' || $1::text)
