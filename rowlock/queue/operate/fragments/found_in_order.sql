-- Of the `seen` jobs, in the order of their ids: those that the act applies to (is_meant) and that match the filter.
-- $1 to $16 the filter, see job_filter.sql   $17 how many
-- $18 the time limit of the search interval: after it come jobs whose `fits` is null, which it did not check
SELECT id, finished_at, fits
  FROM (
       SELECT id, finished_at,
              CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $18::interval) THEN coalesce(
                      is_meant
                  AND {{job_filter}}
                  , false)
              END AS fits
         FROM seen
        ORDER BY id
       ) AS looked
 WHERE fits IS NOT FALSE
 ORDER BY id
 LIMIT $17::integer
