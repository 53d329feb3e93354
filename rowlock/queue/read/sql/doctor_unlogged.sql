-- The UNLOGGED tables whose rows must outlive a crash. Reads only the catalog.
--
-- Leaves out the two that are UNLOGGED by design: their rows are worth nothing after a restart.
SELECT relname AS name
  FROM pg_class
 WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.job'::regclass)
   AND relkind = 'r' AND relpersistence = 'u' AND relname NOT IN ('idle_worker', 'waiter')
 ORDER BY relname
