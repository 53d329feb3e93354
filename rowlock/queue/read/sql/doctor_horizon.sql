-- The transactions that keep vacuum from removing dead rows, and the claims' cursors from settling; oldest first.
--
-- $1 the age from which an open transaction counts   $2 the age from which a prepared one does
--
-- Reads the statistics of the whole server: the horizon is shared. Only a member of
-- pg_read_all_stats sees other users' transactions.
SELECT kind, name, state, application, age
  FROM (
       SELECT 'transaction' AS kind, pid::text AS name, coalesce(state, backend_type) AS state,
              application_name AS application, clock_timestamp() - xact_start AS age, $1::interval AS least
         FROM pg_stat_activity
        WHERE backend_xid IS NOT NULL OR backend_xmin IS NOT NULL
        UNION ALL
       SELECT 'prepared', gid, 'prepared', owner::text, clock_timestamp() - prepared, $2::interval
         FROM pg_prepared_xacts
       ) AS held
 WHERE age > least
 ORDER BY age DESC
 LIMIT 20
