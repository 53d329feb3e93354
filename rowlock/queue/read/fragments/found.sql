-- Of the jobs that are `seen`, newest first, those that fit the filter, and those that were not looked at (`fits` is null).
-- $1 to $16 the filter, see job_filter.sql   $17 how many
-- $18 how long it may look interval. The first job is looked at whatever the time: the right side of <= is evaluated after the left one, once.
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
