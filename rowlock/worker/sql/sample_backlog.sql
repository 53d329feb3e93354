-- Store how many live jobs each queue has, in the present slot of each length. A slot keeps its last sample.
--
-- $1 lengths of the slots in seconds integer[]   $2 how many queues at most: those with the most jobs
-- The row '*' counts all queues, the row '+' the queues beyond $2 together. Without a row '+', the sample names every queue.
-- Queues with these names, which only a manual edit of the tables can create, have no row of their own.
-- No statement blocks a job yet, so blocked jobs are not counted: there is no index that finds them.
--
-- Index: job_claim, all of it: about 0.1 s for a million waiting jobs; job_running; backlog_pkey. Locks: the rows that it writes.
WITH queued AS MATERIALIZED (
    SELECT queue, count(*) FILTER (WHERE run_at <= now()) AS waiting, count(*) FILTER (WHERE run_at > now()) AS scheduled,
           min(run_at) FILTER (WHERE run_at <= now()) AS oldest_due_at
      FROM rowlock.job
     WHERE state = 'queued'
     GROUP BY queue
), running AS MATERIALIZED (
    SELECT queue, count(*) AS running FROM rowlock.job WHERE state = 'running' GROUP BY queue
), counted AS MATERIALIZED (
    SELECT queue, coalesce(waiting, 0) AS waiting, coalesce(scheduled, 0) AS scheduled, coalesce(running, 0) AS running,
           oldest_due_at
      FROM queued
      FULL JOIN running USING (queue)
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
