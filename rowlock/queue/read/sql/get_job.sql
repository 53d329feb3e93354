-- One job, live or finished, with what its handler has reported. $1 the id.
-- Index: job_pkey, finished_job_id of a bounded number of partitions at a time, progress_pkey.
SELECT job.id, job.state, job.queue, job.task, job.priority, job.args_version, job.args::text AS args, job.attempt, job.max_attempts,
       job.errors, job.crashes, job.unique_key, job.timeout, job.result::text AS result, job.error, job.created_at, job.run_at, job.started_at, job.finished_at,
       job.worker, job.expires_at, job.deadline, job.cancel_requested_at, job.discarded_at, job.tags,
       job.metadata::text AS metadata, job.trace,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = job.task), false) AS is_sensitive,
       progress.fraction, progress.message, progress.attempt AS progress_attempt, progress.updated_at AS progress_updated_at
  FROM rowlock.find_job($1::uuid) AS job
  LEFT JOIN rowlock.progress ON progress.job_id = job.id
