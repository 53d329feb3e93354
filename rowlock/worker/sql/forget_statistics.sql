-- Remove old slots: those that began longer than $2 before the time until which the archive is counted a second time.
--
-- $1 lengths of slots in seconds integer[]   $2 how long slots of each length are kept interval[]
-- Returns how many it removed. Index: statistic_pkey, backlog_pkey. Locks: the rows that it removes.
WITH old AS MATERIALIZED (
    SELECT given.step, (
               SELECT least(now(), min(until)) FROM rowlock.statistic_mark WHERE name IN ('counted', 'recounted')
           ) - given.kept AS until
      FROM unnest($1::integer[], $2::interval[]) AS given (step, kept)
), removed AS (
    DELETE FROM rowlock.statistic
     USING old
     WHERE statistic.step = old.step AND statistic.at < old.until
    RETURNING statistic.at
), forgotten AS (
    DELETE FROM rowlock.backlog
     USING old
     WHERE backlog.step = old.step AND backlog.at < old.until
    RETURNING backlog.at
)
SELECT (SELECT count(*) FROM removed) + (SELECT count(*) FROM forgotten) AS removed
