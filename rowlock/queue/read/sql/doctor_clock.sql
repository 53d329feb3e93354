-- Times that the server's clock has set and that are in the future now: the clock went back since. Returns by how much, for
-- each kind. Reads up to $1 rows of the jobs, and small tables. Takes no lock.
-- PostgreSQL 15 and 16 cannot subtract infinite times, such as that of a duty that was never done.
SELECT what, ahead
  FROM (
       SELECT 'duties' AS what, max(set_at) - clock_timestamp() AS ahead FROM rowlock.duty WHERE isfinite(set_at)
        UNION ALL
       SELECT 'leases', max(expires_at - lease) - clock_timestamp() FROM rowlock.worker WHERE isfinite(expires_at)
        UNION ALL
       SELECT 'schedules', max(greatest(updated_at, last_tick_at)) - clock_timestamp() FROM rowlock.schedule
        UNION ALL
       SELECT 'statistics', max(until) - clock_timestamp() FROM rowlock.statistic_mark WHERE isfinite(until)
        UNION ALL
       SELECT 'operations', max(at) - clock_timestamp()
         FROM (SELECT at FROM rowlock.operation ORDER BY id DESC LIMIT 1) AS newest
        UNION ALL
       SELECT 'jobs', max(created_at) - clock_timestamp()
         FROM (SELECT created_at FROM rowlock.job LIMIT $1::integer) AS sample
       ) AS seen
 WHERE ahead > interval '1 second'
 ORDER BY what
