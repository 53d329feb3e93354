-- Audit the upkeep: no duty is planned too far ahead, none stays overdue while a worker lives, and no statistics are
-- counted ahead of the clock. One row an invariant.
--
-- $1 how long a duty may be overdue interval   $2 how many examples
--
-- The duties that count then pause for fifty times as long as they took (hold_duty.sql): always for less than a day.
-- Reads rowlock.duty, rowlock.worker and rowlock.statistic_mark, which are small. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT name, next_run_at, every,
           CASE WHEN name IN ('statistics', 'backlog') THEN interval '1 day' ELSE every + interval '1 minute' END AS most
      FROM rowlock.duty
), broken AS (
    SELECT 'duty too far ahead' AS invariant, format('%s, every %s, is next due at %s', name, every, next_run_at) AS example
      FROM looked
     WHERE next_run_at > now() + most
     UNION ALL
    SELECT 'duty left undone', format('%s, every %s, was due at %s', name, every, next_run_at)
      FROM looked
     WHERE next_run_at < now() - $1::interval
       AND EXISTS (
           SELECT FROM rowlock.worker WHERE worker.expires_at > now() AND worker.started_at < now() - $1::interval
       )
     UNION ALL
    SELECT 'statistics from the future', format('%s until %s', name, until)
      FROM rowlock.statistic_mark
     WHERE until > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken,
       CASE named.invariant WHEN 'statistics from the future' THEN (SELECT count(*) FROM rowlock.statistic_mark)
            ELSE (SELECT count(*) FROM looked) END AS looked_at,
       false AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$2::integer], '{}') AS examples
  FROM unnest(ARRAY['duty too far ahead', 'duty left undone', 'statistics from the future']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
