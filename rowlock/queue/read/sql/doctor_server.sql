-- The server's version, and its settings on which Rowlock's guarantees depend. One row; reads none of Rowlock's tables.
-- Reads the settings of this session: those of the role and the database count.
SELECT current_setting('server_version') AS version,
       current_setting('server_version_num')::integer AS version_number,
       pg_is_in_recovery() AS is_in_recovery,
       current_setting('transaction_read_only')::boolean AS is_read_only,
       current_setting('fsync') AS fsync,
       current_setting('full_page_writes') AS full_page_writes,
       current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standby_names,
       (SELECT count(*)::integer FROM pg_stat_replication WHERE state IS DISTINCT FROM 'backup') AS standbys,
       -- A role outside pg_read_all_stats sees only that they exist, and no details: they count.
       (SELECT count(*)::integer FROM pg_stat_replication
         WHERE state IS DISTINCT FROM 'backup' AND coalesce(sync_state, 'sync') IN ('sync', 'quorum')
       ) AS synchronous_standbys,
       current_setting('default_transaction_isolation') AS default_transaction_isolation,
       current_setting('autovacuum') AS autovacuum,
       current_setting('track_counts') AS track_counts,
       current_setting('autovacuum_max_workers')::integer AS autovacuum_max_workers,
       (SELECT setting::float8 FROM pg_settings WHERE name = 'autovacuum_naptime') AS autovacuum_naptime_s,
       (SELECT setting::float8 FROM pg_settings WHERE name = 'autovacuum_vacuum_cost_delay') AS autovacuum_cost_delay_ms,
       current_setting('max_connections')::integer AS max_connections,
       current_setting('superuser_reserved_connections')::integer
           + coalesce(current_setting('reserved_connections', true)::integer, 0) AS reserved_connections,
       (SELECT coalesce(sum(numbackends), 0)::integer FROM pg_stat_database) AS connections
