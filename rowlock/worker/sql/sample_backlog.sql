-- Store how many live jobs each queue has, in the present slot of each length. A slot keeps its last sample.
--
-- $1 lengths of the slots in seconds integer[]   $2 how many queues at most: those with the most jobs
-- The row '*' counts all queues, the row '+' the queues beyond $2 together. Without a row '+', the sample names every queue.
-- Queues with these names, which only a manual edit of the tables can create, have no row of their own.
-- Blocked jobs are not counted.
--
-- Index: job_claim, all of it, where possible without the table: about 0.1 s for a million live jobs. It has the running jobs
-- too, so these are counted by job_pkey, and subtracted. The oldest due job: job_claim, from the beginning of each lane.
-- Locks: the rows that it writes.
WITH lane AS MATERIALIZED (
    SELECT queue, priority, count(*) FILTER (WHERE run_at <= now()) AS due,
           count(*) FILTER (WHERE run_at > now()) AS scheduled
      FROM rowlock.job
     WHERE run_at < 'infinity'
     GROUP BY queue, priority
), running AS MATERIALIZED (
    SELECT queue, count(*) AS running, count(*) FILTER (WHERE run_at <= now()) AS due
      FROM rowlock.job
     WHERE id = ANY(ARRAY({{held_ids}})) AND worker IS NOT NULL
     GROUP BY queue
), counted AS MATERIALIZED (
    SELECT lane.queue, sum(lane.due) - coalesce(max(running.due), 0) AS waiting,
           sum(lane.scheduled) - coalesce(max(running.running - running.due), 0) AS scheduled,
           coalesce(max(running.running), 0) AS running, min(oldest.run_at) AS oldest_due_at
      FROM lane
      LEFT JOIN running USING (queue)
      LEFT JOIN LATERAL (
           SELECT job.run_at
             FROM rowlock.job
            WHERE job.queue = lane.queue AND job.priority = lane.priority AND job.run_at <= now() AND job.run_at < 'infinity'
              AND job.state = 'queued'
            ORDER BY job.run_at, job.id
            LIMIT 1
           ) AS oldest ON true
     GROUP BY lane.queue
), sample AS MATERIALIZED (
    (SELECT queue, waiting, scheduled, running, oldest_due_at
       FROM counted
      WHERE queue NOT IN ('*', '+')
      ORDER BY waiting + scheduled + running DESC, queue
      LIMIT $2::integer)
     UNION ALL
    SELECT '+', sum(waiting), sum(scheduled), sum(running), min(oldest_due_at)
      FROM (
           SELECT waiting, scheduled, running, oldest_due_at
             FROM counted
            WHERE queue NOT IN ('*', '+')
            ORDER BY waiting + scheduled + running DESC, queue
           OFFSET $2::integer
           ) AS other
    HAVING count(*) > 0
     UNION ALL
    SELECT '*', coalesce(sum(waiting), 0), coalesce(sum(scheduled), 0), coalesce(sum(running), 0), min(oldest_due_at)
      FROM counted
)
INSERT INTO rowlock.backlog (at, taken_at, oldest_due_at, step, queue, waiting, scheduled, running)
SELECT date_bin(length * interval '1 second', now(), 'epoch'), now(), oldest_due_at, length, queue, waiting, scheduled, running
  FROM sample
 CROSS JOIN unnest($1::integer[]) AS length
 ORDER BY length, queue
    ON CONFLICT ON CONSTRAINT backlog_pkey DO UPDATE
       SET taken_at = excluded.taken_at, oldest_due_at = excluded.oldest_due_at, waiting = excluded.waiting,
           scheduled = excluded.scheduled, running = excluded.running
     WHERE excluded.taken_at > backlog.taken_at
