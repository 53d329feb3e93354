-- The past days of the archive whose partitions are empty. Reads only the catalog.
SELECT archive, day
  FROM rowlock.archive_day
 WHERE is_empty AND (day + 1)::timestamp AT TIME ZONE 'UTC' < clock_timestamp() - interval '1 hour'
 ORDER BY day, archive
