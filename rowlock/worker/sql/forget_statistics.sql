-- Remove the slots that are past their time: those that had begun so long before all of the archive was counted a second time.
--
-- $1 the lengths of slots in seconds integer[]   $2 how long those are kept interval[]
-- Returns how many went. Index: statistic_pkey, backlog_pkey. Locks: the rows that it removes.
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
