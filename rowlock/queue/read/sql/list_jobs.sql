-- A page of jobs, live or finished, newest first (ids sort by time).
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 the time limit of its search interval, see found.sql
-- $19 whether to return arguments and results, see page.sql
-- $20 finished ones that ended from then on   $21 and before then: under force_custom_plan, other partitions are not locked
-- $22 whether live ones, too
--
-- Checks at most 20,000 jobs, whatever the filter, and for at most $18: a filter may have to read a megabyte of each.
-- If fewer than $17 of them match, one more row (is_end) names the first job that it did not check.
-- Index: job_pkey and finished_job_id of each partition, merged, backwards, and no further than needed; conditions inside
-- the union would prevent the merge.
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
