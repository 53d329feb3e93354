-- Count the running jobs of a queue, including jobs of dead workers that were not rescued yet.
--
-- $1 the queue. Index: job_pkey, for what the workers hold. Takes no lock.
SELECT count(*) AS running FROM rowlock.job
 WHERE id = ANY(ARRAY({{held_ids}})) AND worker IS NOT NULL AND queue = $1::text
