-- A page of live jobs, newest first: the waiting ones, or all.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 the time limit of its search interval, see found.sql
-- $19 whether to return arguments and results, see page.sql
-- Checks at most 20,000 jobs, like list_jobs.sql.
-- Index: job_pkey, backwards, and no further than needed.
WITH seen AS (
    SELECT {{live_job}}
      FROM rowlock.job
     WHERE id > $4::uuid AND id < $5::uuid
     ORDER BY id DESC
     LIMIT 20000
), found AS MATERIALIZED (
    {{found}}
), beyond AS (
    SELECT id, created_at FROM rowlock.job WHERE id > $4::uuid AND id < $5::uuid ORDER BY id DESC OFFSET 20000 LIMIT 1
)
{{page}}
