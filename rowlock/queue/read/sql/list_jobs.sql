-- A page of jobs, live or finished, newest first (ids sort by time).
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 how long it may look interval, see found.sql
-- $19 whether with arguments and results, see page.sql
-- $20 finished ones that ended from then on   $21 and before then   $22 whether live ones, too: the partitions of other times
-- are not even locked, under force_custom_plan
--
-- Looks at 20,000 jobs at most, whatever the filter, and no longer than $18: a filter may have to read a megabyte of each.
-- If these have fewer that fit, one more row names the first job that was not looked at (is_end).
-- Index: job_pkey and finished_job_id of each partition, merged, backwards, and no further than needed; conditions inside of
-- the union would keep them from being merged.
WITH seen AS (
    SELECT id, created_at, args, result, {{shown_columns}}
      FROM (
           SELECT {{live_job}}
             FROM rowlock.job
            UNION ALL
           SELECT {{finished_job}}
             FROM rowlock.finished_job
           ) AS every
     WHERE id > $4::uuid AND id < $5::uuid
       AND ((finished_at >= $20::timestamptz AND finished_at < $21::timestamptz) OR ($22::boolean AND finished_at IS NULL))
     ORDER BY id DESC
     LIMIT 20000
), found AS MATERIALIZED (
    {{found}}
), beyond AS (
    SELECT id, created_at
      FROM (
           SELECT id, created_at, NULL::timestamptz AS finished_at FROM rowlock.job
            UNION ALL
           SELECT id, created_at, finished_at FROM rowlock.finished_job
           ) AS every
     WHERE id > $4::uuid AND id < $5::uuid
       AND ((finished_at >= $20::timestamptz AND finished_at < $21::timestamptz) OR ($22::boolean AND finished_at IS NULL))
     ORDER BY id DESC
    OFFSET 20000
     LIMIT 1
)
{{page}}
