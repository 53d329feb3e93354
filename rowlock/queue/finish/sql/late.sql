-- Whether the settled cursors have passed a due job of a known task: the fallback for clocks that step back, and for
-- unforeseen causes. Only reads.
--
-- $1 queues text[], $2 priorities smallint[], $3 run_ats timestamptz[], $4 ids uuid[]: the settled cursors
-- $5 the tasks that this worker knows text[], as in claim.sql
-- $6 the number of crashes from which a job runs alone: the cursors skip those
--
-- Index: job_claim, from its beginning: the cost grows with the dead rows, so run it about once a minute.
SELECT EXISTS (
    SELECT FROM unnest($1::text[], $2::smallint[], $3::timestamptz[], $4::uuid[]) AS lane (queue, priority, run_at, id)
     CROSS JOIN LATERAL (
           SELECT FROM rowlock.job
            WHERE job.state = 'queued'
              AND job.queue = lane.queue
              AND job.priority = lane.priority
              AND (job.run_at, job.id) <= (lane.run_at, lane.id)
              AND job.run_at < 'infinity'
              AND (job.ends_at IS NULL OR job.ends_at > now())
              AND CASE job.args_version WHEN 1 THEN job.task ELSE job.task || '@' || job.args_version END
                  = ANY($5::text[])
              AND job.crashes < $6::integer
            LIMIT 1
           ) AS left_behind
) AS is_left_behind
