-- Claim one due job that is on its last chance, for a worker that has no other job: queued → running.
--
-- $1 queues text[], $2 priorities smallint[]: the lanes, the urgent ones first
-- $3 the tasks that this worker knows text[], as in claim.sql
-- $4 the number of crashes from which a job is on its last chance: at least 1   $5 the worker
-- $6 the number of this claim bigint, as in claim.sql
--
-- Returns the same columns as claim.sql, of one job or none: none of a paused queue, and none once the worker's lease has run
-- out. Index: worker_pkey and queue_pkey, once; job_suspect, one probe a lane; then a Tid Scan.
-- Run it under PLANNER_SETTINGS. Locks: the claimed row. Waits for no lock.
WITH paused AS MATERIALIZED (
    SELECT name FROM rowlock.queue WHERE name = ANY($1::text[]) AND paused_at IS NOT NULL
), leased AS MATERIALIZED (
    SELECT id FROM rowlock.worker WHERE id = $5::uuid AND expires_at > clock_timestamp()
), candidate AS MATERIALIZED (
    SELECT due.tid
      FROM unnest($1::text[], $2::smallint[]) AS lane (queue, priority)
     CROSS JOIN LATERAL (
           SELECT job.ctid AS tid
             FROM rowlock.job
            WHERE {{is_suspect}}
            ORDER BY job.run_at
            LIMIT 1
              FOR NO KEY UPDATE SKIP LOCKED
           ) AS due
     WHERE NOT lane.queue = ANY(ARRAY(SELECT paused.name FROM paused))
       AND EXISTS (SELECT FROM leased)
     LIMIT 1
), claimed AS (
    UPDATE rowlock.job
       SET state = 'running', attempt = least(attempt, 2147483646) + 1, worker = $5, started_at = now()
     WHERE ctid = ANY(ARRAY(SELECT tid FROM candidate))
       AND worker IS NULL
    RETURNING {{claimed_columns}},
              CASE WHEN ends_at IS NOT NULL THEN ARRAY[ends_at, expires_at, deadline, started_at] END AS times
), held AS (
    INSERT INTO rowlock.holding (worker, number, ids) SELECT $5, $6::bigint, ARRAY[id] FROM claimed
)
SELECT {{claimed_columns}}, times, $6::bigint AS number FROM claimed
