-- The marks until which the archive is counted (`counted`) and counted a second time (`recounted`), and the present time.
-- Fewer rows while another session counts, or a mark is missing. Locks: these rows, skipping rows that are locked.
SELECT name, until, now() AS now
  FROM rowlock.statistic_mark
 WHERE name IN ('counted', 'recounted')
 ORDER BY name
   FOR UPDATE SKIP LOCKED
