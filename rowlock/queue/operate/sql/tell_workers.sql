-- Notify the listening workers, busy or asleep, of an operator's act on a queue or a worker, so that they follow it at
-- once and not only within a second. Only acts of operators send it, because a NOTIFY takes a lock of the whole server.
--
-- $1 the queue, or the worker's id
SELECT pg_notify('rowlock.wakeup', 'operate:' || $1::text)
