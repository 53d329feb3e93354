-- Restore the rows of duties and of statistics' marks, if a manual edit of the tables removed or renamed one.
-- $1 how far before the last slot the counting begins again interval: finishes commit late. A slot that is counted a second
-- time keeps its count.
--
-- Returns the restored rows, usually none. Index: duty_pkey, statistic_mark_pkey, statistic_pkey. Locks: the new rows.
WITH needed (name, every) AS (
    VALUES ('rescue', interval '1 second'), ('overdue', '1 second'), ('suspects', '1 second'), ('orphans', '1 minute'),
           ('keys', '1 minute'), ('partitions', '1 hour'), ('ticks', '1 hour'), ('unclaimed', '1 minute'),
           ('results', '1 minute'), ('waiters', '1 minute'), ('progress', '1 hour'), ('retention', '1 hour'),
           ('statistics', '10 seconds'), ('backlog', '10 seconds')
), duties AS (
    INSERT INTO rowlock.duty (name, every)
    SELECT name, every
      FROM needed
     WHERE NOT EXISTS (SELECT FROM rowlock.duty WHERE duty.name = needed.name)
     ORDER BY name
        ON CONFLICT ON CONSTRAINT duty_pkey DO NOTHING
    RETURNING 'duty ' || name AS restored
), marks AS (
    INSERT INTO rowlock.statistic_mark (name, until)
    SELECT mark,
           coalesce((SELECT least(max(at), now()) - $1::interval FROM rowlock.statistic WHERE step = 10), clock_timestamp())
      FROM unnest(ARRAY['counted', 'recounted']) AS mark
     WHERE NOT EXISTS (SELECT FROM rowlock.statistic_mark WHERE name = mark)
     ORDER BY mark
        ON CONFLICT ON CONSTRAINT statistic_mark_pkey DO NOTHING
    RETURNING 'statistic_mark ' || name AS restored
)
SELECT restored FROM duties UNION ALL SELECT restored FROM marks ORDER BY restored
