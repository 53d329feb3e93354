-- Audit the running jobs: each has a worker with a valid lease that could have claimed it. One row an invariant.
--
-- $1 how many jobs to check   $2 within what time after a lease has run out, or a worker's row is gone, a worker must have
-- rescued the job interval   $3 how many examples
--
-- A lease that has run out counts only if another worker has lived for that long: otherwise no worker could rescue. A lease
-- that its worker ended ('-infinity') has no time: the duty that rescues is checked instead (audit_duties.sql).
-- Index: job_pkey, for what the workers hold; worker_pkey. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT job.id, job.task, job.args_version, job.worker, job.started_at, holder.id AS holder,
           holder.started_at AS holder_started_at, holder.expires_at, holder.tasks,
           EXISTS (
               SELECT FROM rowlock.worker AS other
                WHERE other.expires_at > now() AND other.started_at < now() - $2::interval
           ) AS is_rescued
      FROM rowlock.job
      LEFT JOIN rowlock.worker AS holder ON holder.id = job.worker
     WHERE job.id = ANY(ARRAY({{held_ids}})) AND job.worker IS NOT NULL
     LIMIT $1::integer
), broken AS (
    SELECT 'running job without a lease' AS invariant,
           CASE WHEN holder IS NULL
                THEN format('job %s runs since %s on worker %s, which has no row', id, started_at, worker)
                ELSE format('job %s runs on worker %s, whose lease ran out at %s', id, worker, expires_at)
           END AS example
      FROM looked
     WHERE is_rescued
       AND CASE WHEN holder IS NULL THEN started_at < now() - $2::interval
                ELSE isfinite(expires_at) AND expires_at < now() - $2::interval END
     UNION ALL
    SELECT 'running job that its worker cannot have claimed',
           CASE WHEN started_at < holder_started_at
                THEN format('job %s runs since %s on worker %s, which started at %s', id, started_at, worker,
                            holder_started_at)
                ELSE format('job %s of the task %s (version %s) runs on worker %s, which does not know it', id, task,
                            args_version, worker)
           END
      FROM looked
     WHERE holder IS NOT NULL
       AND (started_at < holder_started_at - interval '1 minute'
            OR CASE args_version WHEN 1 THEN task ELSE task || '@' || args_version END <> ALL(tasks))
)
SELECT named.invariant, count(broken.example) AS broken, (SELECT count(*) FROM looked) AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$3::integer], '{}') AS examples
  FROM unnest(ARRAY['running job without a lease', 'running job that its worker cannot have claimed'])
       AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
