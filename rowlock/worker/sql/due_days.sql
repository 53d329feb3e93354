-- The days of the archive with rows that retention must remove: their jobs first, then the attempts of these.
-- Reads the catalog, and the few rows of rowlock.queue. Locks nothing.
SELECT archive, day
  FROM rowlock.archive_day
 WHERE NOT is_empty
   AND rowlock.must_be_removed(archive, day, clock_timestamp()) IS NOT NULL
   AND rowlock.must_be_removed(archive, day, clock_timestamp()) IS DISTINCT FROM removed
 ORDER BY archive <> 'finished_job', day, archive
