-- The days of the archive that are over, and whose partitions are empty. Reads the catalog alone.
SELECT archive, day
  FROM rowlock.archive_day
 WHERE is_empty AND (day + 1)::timestamp AT TIME ZONE 'UTC' < clock_timestamp() - interval '1 hour'
 ORDER BY day, archive
