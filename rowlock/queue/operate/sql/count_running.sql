-- How many jobs of a queue run now, those of dead workers that nobody has taken back yet among them.
--
-- $1 the queue. Index: job_running. Takes no lock.
SELECT count(*) AS running FROM rowlock.job WHERE state = 'running' AND queue = $1::text
