-- Keep only what still runs in the rows of large claims most of whose jobs have ended: what runs is found by reading them.
--
-- $1 the worker   $2 the numbers of the claims bigint[]
-- Returns the numbers, and how many jobs are left of each. Index: holding_pkey, job_pkey. Locks: the rows that it changes.
UPDATE rowlock.holding
   SET ids = ARRAY(SELECT job.id FROM rowlock.job WHERE job.id = ANY(holding.ids) AND job.worker = $1::uuid)
 WHERE worker = $1::uuid
   AND number = ANY($2::bigint[])
RETURNING number, cardinality(ids) AS jobs
