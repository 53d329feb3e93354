-- The queues in which jobs wait, by name. A look at the whole table, which a test's is small enough for. Locks: none.
SELECT DISTINCT queue FROM rowlock.job WHERE state = 'queued' ORDER BY queue
