-- What time it is, and until when the archive is counted. Takes no lock.
SELECT now() AS now, until FROM rowlock.statistic_mark WHERE name = 'counted'
