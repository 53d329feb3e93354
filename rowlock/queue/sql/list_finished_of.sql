-- Which of the given jobs are finished. $1 ids uuid[]. Index: finished_job_id of each partition. Locks nothing.
SELECT id FROM rowlock.finished_job WHERE id = ANY($1::uuid[])
