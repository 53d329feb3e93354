-- The names of the schema's objects, and whether the server heeds each: no statement uses an invalid index, and a constraint
-- that was not validated does not cover every row. Of the archive's partitions only the faults: their invalid indexes, and
-- detached partitions. Reads only the catalogue.
WITH ours AS MATERIALIZED (
    SELECT relnamespace AS schema FROM pg_class WHERE oid = 'rowlock.job'::regclass
), relation AS (
    SELECT pg_class.oid AS id, relname AS name, relkind AS kind, relispartition AS is_partition,
           relkind = 'r' AND NOT relispartition
           AND relname ~ '^(finished_job|attempt|attempt_log)_([0-9]{8}|default)$' AS is_detached
      FROM pg_class
      JOIN ours ON ours.schema = relnamespace
     WHERE relkind IN ('r', 'p', 'v')
)
SELECT CASE kind WHEN 'v' THEN 'view' ELSE 'table' END AS kind, name, true AS is_heeded
  FROM relation
 WHERE NOT is_detached AND (NOT is_partition OR name ~ '_default$')
 UNION ALL
SELECT 'partition', name, false FROM relation WHERE is_detached
 UNION ALL
SELECT CASE WHEN is_partition THEN 'partition''s index' ELSE 'index' END, part.relname, indisvalid
  FROM pg_index
  JOIN relation ON relation.id = indrelid
  JOIN pg_class AS part ON part.oid = indexrelid
 WHERE NOT is_detached AND (NOT is_partition OR (part.relispartition AND NOT indisvalid))
 UNION ALL
SELECT 'constraint', relation.name || '.' || conname, convalidated
  FROM pg_constraint
  JOIN relation ON relation.id = conrelid
 WHERE NOT is_detached AND NOT is_partition AND contype IN ('c', 'f', 'p', 'u', 'x')
 UNION ALL
SELECT DISTINCT 'function', proname, true FROM pg_proc JOIN ours ON ours.schema = pronamespace
 ORDER BY kind, name
