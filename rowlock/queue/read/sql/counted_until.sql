-- The present time, and until when the archive is counted: until now if the mark is missing. Takes no lock.
SELECT now() AS now, coalesce((SELECT until FROM rowlock.statistic_mark WHERE name = 'counted'), now()) AS until
