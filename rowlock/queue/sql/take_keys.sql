-- Take the unique keys of many jobs, in the order of the keys (two callers with the same keys then wait, and never lock
-- each other out). Returns a row for each job whose key is held by another one: its id, and the holder's.
--
-- $1 keys text[]   $2 ids uuid[]
SELECT taken.id, taken.holder
  FROM (
       SELECT given.id, rowlock.take_key(given.key, given.id) AS holder
         FROM (SELECT key, id FROM unnest($1::text[], $2::uuid[]) AS pair (key, id) ORDER BY key) AS given
       OFFSET 0
       ) AS taken
 WHERE taken.holder IS NOT NULL
