-- The tasks of the given jobs, live or finished. $1 ids uuid[]. Index: job_pkey, and finished_job_id of each partition.
SELECT id, task FROM rowlock.jobs WHERE id = ANY($1::uuid[])
