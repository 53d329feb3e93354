-- Until when the archive is counted (`counted`) and was counted a second time (`recounted`), and what time it is; no row
-- while somebody else counts. Locks: these rows, skipping what others hold.
SELECT name, until, now() AS now FROM rowlock.statistic_mark ORDER BY name FOR UPDATE SKIP LOCKED
