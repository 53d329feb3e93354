-- One job, live or finished, with its progress. $1 the id.
-- Index: job_pkey, finished_job_id of a bounded number of partitions at a time, progress_pkey.
SELECT id, created_at, args::text AS args, result::text AS result, {{shown_columns}}, trace,
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = job.task), false) AS is_sensitive,
       fraction, message, progress_attempt, progress_updated_at
  FROM rowlock.find_job($1::uuid) AS job
  LEFT JOIN (
       SELECT job_id, fraction, message, attempt AS progress_attempt, updated_at AS progress_updated_at FROM rowlock.progress
       ) AS progress ON progress.job_id = job.id
