-- Pause all rescues for four seconds: leases were lost with the database, and no process died. rescue.sql itself checks
-- held_at, for every caller. The duties that call it fall due when the time is over.
-- Index: duty_pkey. Locks: the two rows, in the order of their names.
WITH locked AS MATERIALIZED (
    SELECT name FROM rowlock.duty WHERE name = ANY(ARRAY['orphans', 'rescue']) ORDER BY name FOR UPDATE
)
UPDATE rowlock.duty
   SET held_at = clock_timestamp(), next_run_at = clock_timestamp() + interval '4 seconds', set_at = clock_timestamp()
 WHERE name = ANY(ARRAY(SELECT locked.name FROM locked))
