-- The finished ones of the given jobs. $1 ids uuid[]. Index: finished_job_id of each partition, window by window. Locks nothing.
SELECT id FROM rowlock.finished_among($1::uuid[]) AS finished (id)
