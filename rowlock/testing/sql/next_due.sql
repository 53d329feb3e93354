-- How long until the next job falls due in those of the given queues that are not paused; null if there is none.
--
-- $1 queues text[]. Returns the wait from now on as an interval. Index: queue_pkey, once; job_claim, one probe a (queue,
-- priority).
WITH paused AS MATERIALIZED (
    SELECT name FROM rowlock.queue WHERE name = ANY($1::text[]) AND paused_at IS NOT NULL
)
SELECT min(due.run_at) - clock_timestamp() AS wait
  FROM (
       SELECT wanted.queue, level.priority::smallint AS priority
         FROM unnest($1::text[]) AS wanted (queue)
        CROSS JOIN generate_series(0, 9) AS level (priority)
       ) AS lane
 CROSS JOIN LATERAL (
       {{next_in_lane}}
       ) AS due
 WHERE NOT lane.queue = ANY(ARRAY(SELECT paused.name FROM paused))
