-- Until when jobs came in that are there now: an act on many does not run after what comes in meanwhile.
--
-- The clock may have gone back: what came in before it did is there all the same, though its time is still to come.
-- Index: none of rowlock.job, which the act reads whole; finished_job_finished_at of the partitions from today on.
SELECT greatest(
           clock_timestamp(),
           (SELECT max(created_at) FROM rowlock.job WHERE created_at > now()),
           rowlock.last_end_to_come()  -- seam: last end
       ) AS until
