-- Of the `seen` jobs, newest first: those that match the filter, and those that it did not check (`fits` is null).
-- $1 to $16 the filter, see job_filter.sql   $17 how many
-- $18 the time limit of the search interval. It always checks the first job: the right side of <= is evaluated once, after the
-- left one.
SELECT id, created_at, args, result, {{shown_columns}}, fits
  FROM (
       SELECT id, created_at, args, result, {{shown_columns}},
              CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $18::interval) THEN coalesce(
                      {{job_filter}}
                  , false)
              END AS fits
         FROM seen
        ORDER BY id DESC
       ) AS looked
 WHERE fits IS NOT FALSE
 ORDER BY id DESC
 LIMIT $17::integer
