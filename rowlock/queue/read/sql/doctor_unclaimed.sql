-- Due jobs that no live worker would claim, by kind, and the reason: there is no worker (`no_worker`), no worker has the task
-- (`no_task`), none of those understands this version of its arguments (`no_version`), none of those serves the queue
-- (`no_queue`), or all that would claim it are quiet or stopping (`quiet`). Leaves out paused queues: an operator wants those
-- jobs to wait.
--
-- $1 the limit of kinds, or null   $2 how many jobs to check of each queue and priority: those due longest, because claimable
-- jobs leave that end, and the others stay there
--
-- Index: job_claim, a probe a lane to find the lanes, then the beginning of each. Takes no lock.
WITH RECURSIVE lane AS (
    (SELECT queue, priority FROM rowlock.job WHERE run_at < 'infinity' ORDER BY queue, priority LIMIT 1)
     UNION ALL
    SELECT next.queue, next.priority
      FROM lane
     CROSS JOIN LATERAL (
           SELECT job.queue, job.priority
             FROM rowlock.job
            WHERE job.run_at < 'infinity' AND (job.queue, job.priority) > (lane.queue, lane.priority)
            ORDER BY job.queue, job.priority
            LIMIT 1
           ) AS next
), kind AS MATERIALIZED (
    SELECT due.task, due.args_version, lane.queue, count(*) AS jobs, min(due.run_at) AS due_since,
           CASE due.args_version WHEN 1 THEN due.task ELSE due.task || '@' || due.args_version END AS claimed_as
      FROM lane
     CROSS JOIN LATERAL (
           SELECT job.task, job.args_version, job.run_at
             FROM rowlock.job
            WHERE job.state = 'queued'
              AND job.queue = lane.queue
              AND job.priority = lane.priority
              AND job.run_at <= now()
              AND job.run_at < 'infinity'
              AND (job.ends_at IS NULL OR job.ends_at > now())
            ORDER BY job.run_at, job.id
            LIMIT $2::integer
           ) AS due
     WHERE NOT lane.queue = ANY(ARRAY(SELECT name FROM rowlock.queue WHERE paused_at IS NOT NULL))
     GROUP BY due.task, due.args_version, lane.queue
), alive AS MATERIALIZED (
    SELECT tasks, queues, state FROM rowlock.worker WHERE expires_at > clock_timestamp() AND followed_by IS NULL
)
SELECT kind.task, kind.args_version, kind.queue, kind.jobs, now() - kind.due_since AS waiting,
       CASE WHEN NOT EXISTS (SELECT FROM alive) THEN 'no_worker'
            WHEN EXISTS (
                SELECT FROM alive WHERE kind.claimed_as = ANY(alive.tasks) AND kind.queue = ANY(alive.queues)
            ) THEN 'quiet'
            WHEN EXISTS (SELECT FROM alive WHERE kind.claimed_as = ANY(alive.tasks)) THEN 'no_queue'
            WHEN EXISTS (
                SELECT FROM alive CROSS JOIN unnest(alive.tasks) AS known (name)
                 WHERE split_part(known.name, '@', 1) = kind.task
            ) THEN 'no_version'
            ELSE 'no_task'
       END AS why
  FROM kind
 WHERE NOT EXISTS (
       SELECT
         FROM alive
        WHERE kind.claimed_as = ANY(alive.tasks)
          AND kind.queue = ANY(alive.queues)
          AND alive.state = 'running'
       )
 ORDER BY kind.jobs DESC, kind.task, kind.args_version, kind.queue
 LIMIT $1::integer
