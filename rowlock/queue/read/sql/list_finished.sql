-- A page of finished jobs that did not succeed, newest first: the dead letters among them.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many   $18 the time limit of its search interval, see found.sql
-- $19 whether to return arguments and results, see page.sql
-- $20 that ended from then on   $21 and before then. The filter's state is required.
-- Checks at most 5,000 of them: they are scattered over the archive.
-- Index: finished_job_unsuccessful of each partition, merged, backwards, and no further than needed.
WITH seen AS (
    SELECT {{finished_job}}
      FROM rowlock.finished_job
     WHERE state = $1::text AND state <> 'succeeded' AND id > $4::uuid AND id < $5::uuid
       AND finished_at >= $20::timestamptz AND finished_at < $21::timestamptz
     ORDER BY id DESC
     LIMIT 5000
), found AS MATERIALIZED (
    {{found}}
), beyond AS (
    SELECT id, created_at
      FROM rowlock.finished_job
     WHERE state = $1::text AND state <> 'succeeded' AND id > $4::uuid AND id < $5::uuid
       AND finished_at >= $20::timestamptz AND finished_at < $21::timestamptz
     ORDER BY id DESC
    OFFSET 5000
     LIMIT 1
)
{{page}}
