-- The tasks of the given jobs, live or finished. $1 ids uuid[]. Index: job_pkey, and finished_job_id of a bounded number of
-- partitions at a time.
SELECT job.id, job.task FROM unnest($1::uuid[]) AS given (id) CROSS JOIN LATERAL rowlock.find_job(given.id) AS job
