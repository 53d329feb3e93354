-- Claim up to $7 due jobs of known tasks: queued → running.
--
-- $1 queues text[], $2 priorities smallint[], $3 run_ats timestamptz[], $4 ids uuid[]: one cursor per lane (queue and
--    priority), the urgent ones first; each lane's scan begins after its (run_at, id)
-- $5 the queues text[], in the order in which they are served   $6 the limit of each integer[]   $7 the limit in all
-- $8 the tasks that this worker knows text[]: 'name' for version 1 of their arguments, 'name@2' for another   $9 the worker
-- $10 whether to take a transaction id even if nothing is claimed (so that the cursors of an idle queue can settle)
-- $11 the number of crashes from which a job runs alone: claim_alone.sql claims those
-- $12 the number of this claim bigint: unique for the worker   $13 the numbers of claims whose jobs have all ended bigint[]
-- $14 whether to tell when the next job falls due, if the limit in all is not reached
-- $15 whether to keep a row of $13 if the worker still runs one of its jobs: the server may have lost outcomes that were
--     recorded, without a reconnect that tells
--
-- Writes down which jobs the worker holds (`holding`), in place of the rows $13: in any case before anybody can see that they run.
--
-- A worker whose lease has run out claims nothing: another worker may have its jobs by now, and would count crashes of these.
--
-- Returns the claimed jobs in the order in which they are to run. `times` is null if ends_at is null; otherwise it is
-- ends_at (no attempt may start after it), expires_at, the deadline, and now. One last row has a null id: this statement's
-- transaction id (null if it has none), the oldest transaction id in use and the first that is not in use yet, the time until
-- which it looked for due jobs (null if the lease has run out), which of the queues are paused: it does not search those; and
-- how long it is until the next job falls due in the other ones.
--
-- Index: worker_pkey and queue_pkey, once; job_claim, one range scan a lane; then a Tid Scan. The planner cannot turn a join
-- around: LATERAL fixes the first, and `ctid = ANY(ARRAY(…))` the second. Run it under PLANNER_SETTINGS.
-- Locks: the claimed rows. Waits for no lock.
WITH paused AS MATERIALIZED (
    SELECT name FROM rowlock.queue WHERE name = ANY($5::text[]) AND paused_at IS NOT NULL  -- seam: paused
), leased AS MATERIALIZED (
    SELECT id FROM rowlock.worker WHERE id = $9::uuid AND expires_at > clock_timestamp()  -- seam: leased
), candidate AS MATERIALIZED (
    SELECT due.tid
      FROM unnest($5::text[], $6::integer[]) AS served (queue, wanted)
     CROSS JOIN LATERAL (
           SELECT next.tid
             FROM unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::uuid[]) AS lane (queue, priority, run_at, id)
            CROSS JOIN LATERAL (
                  SELECT job.ctid AS tid  -- seam: candidate
                    FROM rowlock.job
                   WHERE job.state = 'queued'
                     AND job.queue = lane.queue
                     AND job.priority = lane.priority
                     AND (job.run_at, job.id) > (lane.run_at, lane.id)
                     AND job.run_at <= now()  -- seam: due
                     AND job.run_at < 'infinity'
                     AND (job.ends_at IS NULL OR job.ends_at > now())  -- seam: not expired
                     AND CASE job.args_version WHEN 1 THEN job.task ELSE job.task || '@' || job.args_version END
                         = ANY($8::text[])  -- seam: known tasks
                     AND job.crashes < $11::integer
                   ORDER BY job.run_at, job.id
                   LIMIT served.wanted
                     FOR NO KEY UPDATE SKIP LOCKED  -- seam: claim lock
                  ) AS next
            WHERE lane.queue = served.queue
            LIMIT served.wanted
           ) AS due
     WHERE NOT served.queue = ANY(ARRAY(SELECT paused.name FROM paused))
       AND EXISTS (SELECT FROM leased)
     LIMIT $7
), claimed AS (
    UPDATE rowlock.job
       SET state = 'running', attempt = least(attempt, 2147483646) + 1, worker = $9, started_at = now()
     WHERE ctid = ANY(ARRAY(SELECT tid FROM candidate))  -- seam: claimed
       AND worker IS NULL  -- seam: unclaimed
    RETURNING {{claimed_columns}},
              CASE WHEN ends_at IS NOT NULL THEN ARRAY[ends_at, expires_at, deadline, started_at] END AS times
), counted AS MATERIALIZED (
    SELECT count(*) AS jobs, array_agg(id) AS ids FROM claimed
), held AS (
    INSERT INTO rowlock.holding (worker, number, ids)
    SELECT $9, $12::bigint, counted.ids FROM counted WHERE counted.jobs > 0  -- seam: held
), ended AS (
    DELETE FROM rowlock.holding
     WHERE worker = $9 AND number = ANY($13::bigint[])
       AND (SELECT counted.jobs FROM counted) > 0  -- an empty claim writes nothing
       AND CASE WHEN $15::boolean THEN NOT EXISTS (
               SELECT FROM rowlock.job WHERE job.id = ANY(holding.ids) AND job.worker = $9
           ) ELSE true END
), next AS (
    SELECT min(due.run_at) - now() AS wait
      FROM unnest($1::text[], $2::smallint[]) AS lane (queue, priority)
     CROSS JOIN LATERAL (
           {{next_in_lane}}
           ) AS due
     WHERE $14::boolean
       AND NOT lane.queue = ANY(ARRAY(SELECT paused.name FROM paused))
       AND (SELECT counted.jobs FROM counted) < $7
)
(
SELECT {{claimed_columns}}, times, $12::bigint AS number,
       NULL::xid8 AS xid, NULL::xid8 AS xmin, NULL::xid8 AS xmax, NULL::timestamptz AS looked_until, NULL::text[] AS paused, NULL::interval AS wait
  FROM claimed
 ORDER BY priority DESC, run_at, id
)
 UNION ALL
SELECT {{null claimed_columns}}, NULL, NULL,
       CASE WHEN $10::boolean THEN pg_current_xact_id() ELSE pg_current_xact_id_if_assigned() END,
       pg_snapshot_xmin(pg_current_snapshot()), pg_snapshot_xmax(pg_current_snapshot()), (SELECT now() FROM leased), ARRAY(SELECT paused.name FROM paused),
       (SELECT next.wait FROM next)
  FROM counted
