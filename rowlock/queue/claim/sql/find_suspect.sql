-- Whether a job on its last chance is due that this worker could run alone, in a queue that is not paused. Only reads.
--
-- $1 queues text[], $2 priorities smallint[]: the lanes   $3 the tasks that this worker knows text[], as in claim.sql
-- $4 the number of crashes from which a job is on its last chance: at least 1
--
-- Index: queue_pkey, once; job_suspect, one probe a lane. Run it under PLANNER_SETTINGS.
WITH paused AS MATERIALIZED (
    SELECT name FROM rowlock.queue WHERE name = ANY($1::text[]) AND paused_at IS NOT NULL
)
SELECT EXISTS (
    SELECT
      FROM unnest($1::text[], $2::smallint[]) AS lane (queue, priority)
     CROSS JOIN LATERAL (
           SELECT
             FROM rowlock.job
            WHERE {{is_suspect}}
            LIMIT 1
           ) AS due
     WHERE NOT lane.queue = ANY(ARRAY(SELECT paused.name FROM paused))
) AS is_due
