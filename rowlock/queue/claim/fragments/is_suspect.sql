-- Whether a job is on its last chance, due in this lane, and of a task that the worker knows: $3 those tasks text[]
-- $4 the number of crashes from which a job is on its last chance: at least 1
    job.worker IS NULL
AND job.crashes > 0
AND job.crashes >= $4::integer
AND job.queue = lane.queue
AND job.priority = lane.priority
AND job.run_at <= now()
AND (job.ends_at IS NULL OR job.ends_at > now())
AND CASE job.args_version WHEN 1 THEN job.task ELSE job.task || '@' || job.args_version END
    = ANY($3::text[])
