-- Audit the live jobs, newest first: their columns agree, no time is ahead of the clock, none was enqueued with a key that
-- another job held, each running one is in its worker's rows of holding, and none still waits long after its time was over. One row an invariant.
--
-- $1 how many jobs to check   $2 how many examples   $3 how long upkeep may leave a job whose time is over interval
--
-- Errors: the attempt with which they reach max_attempts ends the job. An enqueue with on_duplicate 'replace' may lower the
-- max_attempts of a job that has a key and waits: max_attempts is not checked for such jobs. Crashes have no limit in the
-- tables: it is a setting of each worker, and a job that did not run alone may crash once more.
-- Keys: the key's row names the job that claimed the key last, whatever its kind. That job claimed it before its run_at (and
-- created_at) was written. A job that was created later and has the same key cannot have claimed it: its enqueue found the key
-- held. A job that was created earlier may have held the key before, until its start or for a period: the tables do not show.
-- The ids must have the same order: the order of created_at alone is wrong where the server's clock was put back.
-- Time: the duty 'overdue' has run at least $3 after the time was over. A job that was put back or replaced waits since its
-- run_at at the latest; one with a key may have been replaced. An enqueue that commits later than $3 causes the same finding.
-- Index: job_pkey, unique_key_pkey. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT id, state, coalesce(due_at, run_at) AS run_at, created_at, started_at, ends_at, expires_at, deadline,
           cancel_requested_at, worker, attempt, max_attempts, errors, crashes, unique_key
      FROM rowlock.job
     ORDER BY id DESC
     LIMIT $1::integer
), contradiction AS (
    SELECT id, concat_ws(
               ', ',
               CASE WHEN (state = 'running') <> (worker IS NOT NULL) THEN format('%s with worker %s', state, worker) END,
               CASE WHEN (state = 'running') <> (started_at IS NOT NULL)
                    THEN format('%s with started_at %s', state, started_at) END,
               CASE WHEN state = 'running' AND attempt < 1 THEN format('running with attempt %s', attempt) END,
               CASE WHEN errors::bigint + crashes > attempt
                    THEN format('%s errors and %s crashes in %s attempts', errors, crashes, attempt) END,
               CASE WHEN unique_key IS NULL AND errors >= max_attempts
                    THEN format('%s with %s errors, of at most %s attempts', state, errors, max_attempts) END,
               CASE WHEN NOT isfinite(run_at) THEN format('run_at %s', run_at) END,
               CASE WHEN cancel_requested_at IS NOT NULL AND ends_at IS DISTINCT FROM '-infinity'
                    THEN format('ends_at %s although a cancel was requested', ends_at)
                    WHEN cancel_requested_at IS NULL
                         AND ends_at IS DISTINCT FROM least(expires_at, deadline)
                         AND (attempt = 0 OR attempt = 1 AND state = 'running' OR ends_at IS DISTINCT FROM deadline)
                         AND (ends_at = '-infinity' AND state <> 'running' AND unique_key IS NOT NULL
                              AND least(expires_at, deadline) <= now()) IS NOT TRUE  -- another job has claimed its key
                    THEN format('ends_at %s with expires_at %s and deadline %s', ends_at, expires_at, deadline) END
           ) AS what
      FROM looked
), over AS (
    SELECT id, state, ends_at,
           greatest(created_at, nullif(ends_at, '-infinity'), cancel_requested_at,
                    CASE WHEN attempt > 0 OR unique_key IS NOT NULL THEN run_at END) AS over_at
      FROM looked
     WHERE state <> 'running' AND ends_at IS NOT NULL
), broken AS (
    SELECT 'live job whose columns disagree' AS invariant, format('job %s: %s', id, what) AS example
      FROM contradiction
     WHERE what <> ''
     UNION ALL
    SELECT 'live job from the future',
           format('job %s was written at %s', id, greatest(created_at, started_at, cancel_requested_at))
      FROM looked
     WHERE greatest(created_at, started_at, cancel_requested_at) > now() + interval '1 minute'
     UNION ALL
    SELECT 'two live jobs with one key',
           format('job %s (%s), created at %s, has the key %s, which job %s (%s) has held since %s or earlier', looked.id,
                  looked.state, looked.created_at, looked.unique_key, holder.id, holder.state, holder.since)
      FROM looked
     CROSS JOIN LATERAL (
           SELECT job.id, job.state, greatest(job.created_at, job.run_at) AS since
             FROM rowlock.unique_key
             JOIN rowlock.job ON job.id = unique_key.job_id AND job.unique_key = unique_key.key
            WHERE unique_key.key = looked.unique_key
            LIMIT 1
           ) AS holder
     WHERE holder.id < looked.id AND holder.since < looked.created_at
     UNION ALL
    SELECT 'running job that nobody holds',
           format('job %s runs on worker %s, and the rows of holding do not list it', id, worker)
      FROM looked
     WHERE state = 'running'
       AND NOT EXISTS (SELECT FROM ({{held_ids}}) AS held WHERE held.id = looked.id)
     UNION ALL
    SELECT 'waiting job whose time is over', format('job %s is %s, and was over at %s', id, state, over_at)
      FROM over
     WHERE over_at + $3::interval < (SELECT least(set_at, now()) FROM rowlock.duty WHERE name = 'overdue')
       AND EXISTS (
           SELECT FROM rowlock.worker WHERE worker.expires_at > now() AND worker.started_at < now() - $3::interval
       )
)
SELECT named.invariant, count(broken.example) AS broken,
       CASE named.invariant
            WHEN 'two live jobs with one key' THEN (SELECT count(*) FROM looked WHERE unique_key IS NOT NULL)
            WHEN 'running job that nobody holds' THEN (SELECT count(*) FROM looked WHERE state = 'running')
            WHEN 'waiting job whose time is over' THEN (SELECT count(*) FROM over)
            ELSE (SELECT count(*) FROM looked) END AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$2::integer], '{}') AS examples
  FROM unnest(ARRAY['live job whose columns disagree', 'live job from the future', 'two live jobs with one key',
                    'running job that nobody holds', 'waiting job whose time is over']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
