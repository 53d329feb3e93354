-- List the queues with waiting jobs, by name. Scans the whole table: a test's table is small. Locks: none.
SELECT DISTINCT queue FROM rowlock.job WHERE state = 'queued' ORDER BY queue
