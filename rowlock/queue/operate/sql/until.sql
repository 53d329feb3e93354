-- The newest time of the present jobs: a bulk act does not include jobs that arrive meanwhile.
--
-- The clock may have gone back: jobs from before that count, too, although their time is in the future.
-- Index: none of rowlock.job, which the act reads completely; finished_job_finished_at of the partitions from today on.
SELECT greatest(
           clock_timestamp(),
           (SELECT max(created_at) FROM rowlock.job WHERE created_at > now()),
           rowlock.last_end_to_come()  -- seam: last end
       ) AS until
