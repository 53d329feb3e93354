-- The rights that this role lacks on an object. $1 the schema   $2 the kind: `table`, `view`, `schema` or another   $3 its name
-- One row: the role, and the rights, as GRANT names them. Reads only the catalog.
SELECT current_user::text AS role,
       ARRAY(
           SELECT one.name
             FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) WITH ORDINALITY AS one (name, place)
             JOIN pg_class AS relation ON relation.relname = $3::text
             JOIN pg_namespace AS space ON space.oid = relation.relnamespace AND space.nspname = $1::text
            WHERE $2::text IN ('table', 'view') AND NOT has_table_privilege(relation.oid, one.name)
            ORDER BY one.place
       ) || ARRAY(
           SELECT 'USAGE' FROM pg_namespace AS space
            WHERE $2::text = 'schema' AND space.nspname = $3::text AND NOT has_schema_privilege(space.oid, 'USAGE')
       ) AS rights
