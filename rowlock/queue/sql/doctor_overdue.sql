-- The days of the archive that should have been removed, or rewritten, for some time. $1 how long interval
-- What operators have just said leads to nothing yet. Reads the catalog, and the few rows of rowlock.queue.
SELECT archive, day
  FROM rowlock.archive_day
 WHERE NOT is_empty
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS NOT NULL
   AND rowlock.must_be_removed(archive, day, clock_timestamp() - $1::interval) IS DISTINCT FROM removed
   AND rowlock.must_be_removed(archive, day, clock_timestamp()) IS DISTINCT FROM removed
   AND NOT EXISTS (SELECT FROM rowlock.queue WHERE updated_at > clock_timestamp() - $1::interval)
 ORDER BY day, archive
