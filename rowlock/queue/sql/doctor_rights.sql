-- What this role may do of what workers do. One row: its name, the owners of the archive that it is no member of, whether it may
-- make tables in the schema, and the tables that it may not write to. Reads the catalog alone.
SELECT current_user::text AS role,
       coalesce(
           array_agg(DISTINCT pg_get_userbyid(relowner)::text) FILTER (
               WHERE relname ~ '^(finished_job|attempt|attempt_log)(_default|_[0-9]{8})?$'
                 AND NOT pg_has_role(relowner, 'USAGE')
           ), '{}'
       ) AS owners,
       bool_and(has_schema_privilege(relnamespace, 'CREATE')) AS makes_tables,
       coalesce(
           array_agg(relname::text ORDER BY relname) FILTER (
               WHERE NOT relispartition
                 AND NOT (
                     has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')
                     AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE')
                 )
           ), '{}'
       ) AS unwritable
  FROM pg_class
 WHERE relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.job'::regclass)
   AND relkind IN ('r', 'p')
   AND relname <> 'rowlock_version'
