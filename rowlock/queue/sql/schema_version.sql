-- The schema's revision. Fails with undefined_table where Rowlock was never migrated.
SELECT version_num FROM rowlock.alembic_version
