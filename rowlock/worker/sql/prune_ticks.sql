-- Remove old ticks. Keep the last $1 of each schedule, and all that fired within the last $2. Returns how many it removed.
--
-- Index: schedule_tick_pkey. Locks: the removed rows.
WITH pruned AS (
    DELETE FROM rowlock.schedule_tick AS tick
     USING (
        SELECT name, (
            SELECT t.tick_at FROM rowlock.schedule_tick AS t WHERE t.schedule = schedule.name
             ORDER BY t.tick_at DESC OFFSET $1::integer LIMIT 1
        ) AS until
          FROM rowlock.schedule
     ) AS old
     WHERE tick.schedule = old.name AND tick.tick_at <= old.until AND tick.fired_at < clock_timestamp() - $2::interval
    RETURNING tick.tick_at
)
SELECT count(*) AS pruned FROM pruned
