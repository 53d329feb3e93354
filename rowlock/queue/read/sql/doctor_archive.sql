-- The size of the archive, the size of yesterday's part (UTC), whether retention ever removes anything, and the size of the
-- server's lock table. One row.
-- Reads the catalog, and the few rows of rowlock.queue.
SELECT count(DISTINCT day) FILTER (WHERE NOT is_empty) AS days,
       coalesce(sum(bytes), 0)::bigint AS bytes,
       coalesce(sum(bytes) FILTER (WHERE day = (clock_timestamp() AT TIME ZONE 'UTC')::date - 1), 0)::bigint AS yesterday,
       EXISTS (
           SELECT FROM rowlock.queue
            WHERE least(keep_succeeded, keep_failed, keep_cancelled, keep_expired) < '900 years'
       ) AS is_limited,
       current_setting('max_locks_per_transaction')::bigint * current_setting('max_connections')::bigint AS room
  FROM rowlock.archive_day
