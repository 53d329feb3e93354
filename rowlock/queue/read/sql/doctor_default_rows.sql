-- Count the rows in the archive's default partitions, up to $1 each.
SELECT (SELECT count(*) FROM (SELECT id FROM rowlock.finished_job_default LIMIT $1::integer) AS counted) AS finished_jobs,
       (SELECT count(*) FROM (SELECT job_id FROM rowlock.attempt_default LIMIT $1::integer) AS counted) AS attempts
