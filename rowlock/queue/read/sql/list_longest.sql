-- The jobs that have been running longest, with their progress, unless their tasks are sensitive.
--
-- $1 how many. Reads only the running jobs; the workers' concurrency limits their number.
-- Index: job_pkey, for what the workers hold; progress_pkey, task_pkey. Takes no lock.
SELECT job.id, job.task, job.queue, job.attempt, job.max_attempts, job.started_at, job.worker, progress.fraction, progress.message
  FROM (
           SELECT id, task, queue, attempt, max_attempts, started_at, worker
             FROM rowlock.job
            WHERE id = ANY(ARRAY({{held_ids}})) AND worker IS NOT NULL
            ORDER BY started_at, id
            LIMIT $1::integer
       ) AS job
  LEFT JOIN rowlock.progress
         ON progress.job_id = job.id
        AND NOT EXISTS (SELECT FROM rowlock.task WHERE task.name = job.task AND task.is_sensitive)
 ORDER BY job.started_at, job.id
