-- Count the running jobs of a queue, including jobs of dead workers that were not rescued yet.
--
-- $1 the queue. Index: job_running. Takes no lock.
SELECT count(*) AS running FROM rowlock.job WHERE state = 'running' AND queue = $1::text
