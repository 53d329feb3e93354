-- Whether the archive's partitions of today (UTC) and the next $1 days exist, and if not, whether another object has the
-- name. Reads only the catalog.
SELECT archive.name || '_' || to_char(day.day, 'YYYYMMDD') AS name,
       EXISTS (
           SELECT FROM pg_inherits
             JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
            WHERE pg_inherits.inhparent = archive.id
              AND pg_class.relname = archive.name || '_' || to_char(day.day, 'YYYYMMDD')
       ) AS is_there,
       to_regclass('rowlock.' || archive.name || '_' || to_char(day.day, 'YYYYMMDD')) IS NOT NULL AS is_taken
  FROM (
       VALUES ('finished_job', 'rowlock.finished_job'::regclass), ('attempt', 'rowlock.attempt'::regclass),
              ('attempt_log', 'rowlock.attempt_log'::regclass)
       ) AS archive (name, id)
 CROSS JOIN (
       SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date + ahead AS day FROM generate_series(0, $1::integer) AS ahead
       ) AS day
 ORDER BY name
