-- Until when the archive is counted (`counted`) and was counted a second time (`recounted`), and what time it is; fewer
-- rows while somebody else counts, or a mark is missing. Locks: these rows, skipping what others hold.
SELECT name, until, now() AS now
  FROM rowlock.statistic_mark
 WHERE name IN ('counted', 'recounted')
 ORDER BY name
   FOR UPDATE SKIP LOCKED
