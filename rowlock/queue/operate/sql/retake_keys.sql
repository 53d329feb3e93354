-- Claim the unique keys of finished jobs again, before the jobs go back, in the order of the keys: two callers with the same
-- keys then wait for each other and never deadlock. Run it between lock_finished.sql and retry.sql.
--
-- $1 keys text[]   $2 ids uuid[]
--
-- Returns a row for each job whose key another job holds by now: its id, and the holder's. Index: unique_key_pkey.
SELECT taken.id, taken.holder
  FROM (
       SELECT given.id, rowlock.take_key(given.key, given.id) AS holder
         FROM (SELECT key, id FROM unnest($1::text[], $2::uuid[]) AS pair (key, id) ORDER BY key COLLATE "C") AS given
       OFFSET 0
       ) AS taken
 WHERE taken.holder <> taken.id  -- seam: held keys
