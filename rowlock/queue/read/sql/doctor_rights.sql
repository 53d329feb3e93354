-- Which of a worker's rights this role has. One row: its name, the owners of the archive of which it is not a member, whether
-- it may create tables in the schema, the tables that it may not write to, and the partitions with another owner than their
-- archive, with one such owner and the right one. Reads only the catalog.
SELECT current_user::text AS role,
       coalesce(
           array_agg(DISTINCT pg_get_userbyid(here.relowner)::text) FILTER (
               WHERE here.relname IN ('finished_job', 'attempt', 'attempt_log') AND NOT pg_has_role(here.relowner, 'USAGE')
           ), '{}'
       ) AS owners,
       bool_and(has_schema_privilege(here.relnamespace, 'CREATE')) AS makes_tables,
       coalesce(
           array_agg(here.relname::text ORDER BY here.relname) FILTER (
               WHERE NOT here.relispartition
                 AND NOT (
                     has_table_privilege(here.oid, 'SELECT') AND has_table_privilege(here.oid, 'INSERT')
                     AND has_table_privilege(here.oid, 'UPDATE') AND has_table_privilege(here.oid, 'DELETE')
                 )
           ), '{}'
       ) AS unwritable,
       coalesce(array_agg(here.relname::text ORDER BY here.relname) FILTER (WHERE here.relowner <> archive.relowner), '{}') AS strays,
       min(here.relowner::regrole::text) FILTER (WHERE here.relowner <> archive.relowner) AS strays_owner,
       min(archive.relowner::regrole::text) FILTER (WHERE here.relowner <> archive.relowner) AS archives_owner
  FROM pg_class AS here
  LEFT JOIN pg_inherits ON pg_inherits.inhrelid = here.oid
  LEFT JOIN pg_class AS archive ON archive.oid = pg_inherits.inhparent
 WHERE here.relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.job'::regclass)
   AND here.relkind IN ('r', 'p')
   AND here.relname <> 'rowlock_version'
