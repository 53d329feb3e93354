-- A page of running jobs, newest first.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 the time limit of its search interval, see found.sql
-- $19 whether to return arguments and results, see page.sql
-- Index: job_pkey, for what the workers hold: few jobs run, compared with those that wait.
WITH running AS MATERIALIZED (
    SELECT {{live_job}} FROM rowlock.job WHERE id = ANY(ARRAY({{held_ids}})) AND worker IS NOT NULL
), seen AS (
    SELECT id, created_at, args, result, {{shown_columns}}
      FROM running
     WHERE id > $4::uuid AND id < $5::uuid
     ORDER BY id DESC
), found AS MATERIALIZED (
    {{found}}
), beyond AS (
    SELECT id, created_at FROM running WHERE false
)
{{page}}
