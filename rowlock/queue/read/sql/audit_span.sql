-- Read the bounds of an audit. One row: the database's clock; the archive's oldest day; since when the rules of retention
-- have removed no job, which is since their last change, and within the shortest time that any job is kept (null: always);
-- and until when the statistics were counted a second time.
--
-- No parameters. Reads the catalog and the few rows of rowlock.queue. Takes no lock beyond ACCESS SHARE.
SELECT now() AS now,
       (
           SELECT min(to_date(right(pg_class.relname, 8), 'YYYYMMDD'))::timestamp AT TIME ZONE 'UTC'
             FROM pg_inherits
             JOIN pg_class ON pg_class.oid = pg_inherits.inhrelid
            WHERE pg_inherits.inhparent IN ('rowlock.finished_job'::regclass, 'rowlock.attempt'::regclass)
              AND pg_class.relname ~ '_[0-9]{8}$'
       ) AS oldest,
       (
           SELECT greatest(
                      max(updated_at),
                      now() - nullif(min(least(keep_succeeded, keep_failed, keep_cancelled, keep_expired)), '1000 years')
                  )
             FROM rowlock.queue
            WHERE name = '*' OR least(keep_succeeded, keep_failed, keep_cancelled, keep_expired) IS NOT NULL
       ) AS kept_since,
       (SELECT until FROM rowlock.statistic_mark WHERE name = 'recounted') AS recounted
