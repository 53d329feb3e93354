-- The days of the archive that hold what retention has to remove: their jobs first, then the attempts of these.
--
-- $1 as of how long ago interval: what was due then, and still is
-- Reads the catalog, and the few rows of rowlock.queue. Locks nothing.
SELECT archive, day, about_rows
  FROM rowlock.archive_day
 WHERE NOT is_empty
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS DISTINCT FROM removed
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS NOT NULL
   AND rowlock.must_be_removed(archive, day, clock_timestamp()) IS DISTINCT FROM removed
 ORDER BY archive <> 'finished_job', day, archive
