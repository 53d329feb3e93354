-- Rowlock's tables as vacuum sees them: their storage parameters, dead rows, and the age of their oldest transaction id.
-- Reads the catalog and the statistics of every table, including partitions.
SELECT main.relname AS name,
       coalesce(main.reloptions, '{}') || ARRAY(SELECT 'toast.' || option FROM unnest(toast.reloptions) AS option) AS options,
       pg_stat_get_live_tuples(main.oid) AS live,
       pg_stat_get_dead_tuples(main.oid) AS dead,
       date_trunc('second', greatest(
           pg_stat_get_last_autovacuum_time(main.oid), pg_stat_get_last_vacuum_time(main.oid)
       )) AS vacuumed_at,
       greatest(age(main.relfrozenxid), age(toast.relfrozenxid)) AS age,
       current_setting('autovacuum_freeze_max_age')::bigint AS freeze_max_age
  FROM pg_class AS main
  LEFT JOIN pg_class AS toast ON toast.oid = main.reltoastrelid
 WHERE main.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.job'::regclass)
   AND main.relkind = 'r'
 ORDER BY main.relname
