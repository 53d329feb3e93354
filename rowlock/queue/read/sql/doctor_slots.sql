-- Unused replication slots, and slots and standbys with hot_standby_feedback that keep vacuum from removing dead rows.
--
-- $1 the number of transactions from which a slot or standby in use counts: a standby is always some behind between reports
--
-- `transactions`: for how many transactions dead rows are kept, null if for none. `wal_bytes`: how much WAL a slot keeps.
-- `sees_all`: whether this role sees other users' transactions and standbys; if nothing else is found, one row has only this.
-- Reads the statistics of the whole server. Takes no lock.
SELECT kind, name, is_in_use, transactions, wal_bytes,
       pg_has_role('pg_read_all_stats', 'MEMBER') AS sees_all
  FROM (
       SELECT 'slot' AS kind, slot_name::text AS name, active AS is_in_use,
              greatest(age(xmin), age(catalog_xmin)) AS transactions,
              CASE WHEN NOT pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) END::bigint AS wal_bytes
         FROM pg_replication_slots
        WHERE NOT active OR greatest(age(xmin), age(catalog_xmin)) >= $1::integer
        UNION ALL
       SELECT 'standby', coalesce(nullif(application_name, ''), client_addr::text, pid::text), true, age(backend_xmin), NULL
         FROM pg_stat_replication
        WHERE age(backend_xmin) >= $1::integer
       ) AS held
 RIGHT JOIN (SELECT) AS one ON true
 ORDER BY transactions DESC NULLS LAST, name
 LIMIT 20
