-- The connection limits of the session's role and database; -1 stands for no limit of their own. Returns one row.
-- Reads only the catalog.
SELECT r.rolname::text AS role, r.rolconnlimit AS role_limit, d.datname::text AS database, d.datconnlimit AS database_limit,
       current_setting('max_connections')::integer AS max_connections
  FROM pg_roles AS r, pg_database AS d
 WHERE r.rolname = current_user AND d.datname = current_database()
