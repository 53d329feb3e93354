-- The schema's revision, and whether the schema was renamed: its functions contain its name. Fails with undefined_table
-- where Rowlock was never migrated. Reads the catalogue.
SELECT version_num,
       NOT EXISTS (
           SELECT FROM pg_proc
            WHERE pronamespace = (SELECT relnamespace FROM pg_class WHERE oid = 'rowlock.rowlock_version'::regclass)
              AND position('rowlock.' IN prosrc) > 0
       ) AS is_renamed
  FROM rowlock.rowlock_version
