-- Mark the declared schedules that this worker's code does not declare any more, though it has their tasks; remove the
-- mark from those that it declares. Marked schedules still fire: the code of another worker may declare them.
--
-- $1 names of the declared schedules   $2 tasks of this worker
--
-- Returns the names of the undeclared schedules. Index: schedule_pkey. Locks: the rows that change, by name.
WITH changed AS MATERIALIZED (
    SELECT name, name <> ALL ($1::text[]) AS is_gone
      FROM rowlock.schedule
     WHERE origin = 'code' AND task = ANY ($2::text[]) AND (name <> ALL ($1::text[])) = (undeclared_at IS NULL)
     ORDER BY name
       FOR NO KEY UPDATE
), written AS (
    UPDATE rowlock.schedule AS s
       SET undeclared_at = CASE WHEN changed.is_gone THEN clock_timestamp() END
      FROM changed
     WHERE s.name = changed.name
)
SELECT name FROM rowlock.schedule WHERE origin = 'code' AND task = ANY ($2::text[]) AND name <> ALL ($1::text[]) ORDER BY name
