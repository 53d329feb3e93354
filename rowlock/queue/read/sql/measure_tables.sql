-- How many live and dead rows each of Rowlock's tables has, as vacuum counts them, and how many bytes. It adds up the
-- partitions of one table; their bytes are those of the last vacuum or analyze.
--
-- Reads the catalog and the statistics of every table. Locks: ACCESS SHARE on those that are not partitioned.
SELECT parent.relname AS name,
       sum(pg_stat_get_live_tuples(part.oid))::bigint AS live,
       sum(pg_stat_get_dead_tuples(part.oid))::bigint AS dead,
       CASE parent.relkind
           WHEN 'r' THEN pg_total_relation_size(parent.oid)
           ELSE sum(pages.count)::bigint * current_setting('block_size')::bigint
       END AS bytes
  FROM pg_class AS parent
  LEFT JOIN pg_inherits ON pg_inherits.inhparent = parent.oid AND parent.relkind = 'p'
  JOIN pg_class AS part ON part.oid = coalesce(pg_inherits.inhrelid, parent.oid)
 CROSS JOIN LATERAL (
       SELECT sum(relpages)::bigint AS count
         FROM pg_class
        WHERE oid = part.oid
           OR oid = part.reltoastrelid
           OR oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (part.oid, part.reltoastrelid))
       ) AS pages
 WHERE parent.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.job'::regclass)
   AND parent.relkind IN ('r', 'p')
   AND NOT parent.relispartition
 GROUP BY parent.oid, parent.relname, parent.relkind
 ORDER BY parent.relname
