-- Audit the live jobs, newest first: their columns agree, no time is ahead of the clock, and nobody else holds the key of one
-- that waits for its first attempt. One row an invariant.
--
-- $1 how many jobs to look at   $2 how many examples
--
-- How long a job holds its key is written in the key's row alone. So a job without such a row is not judged (its period may
-- be over), nor one that has started (it may have had the key until then), nor one whose key another job has for a period.
-- Index: job_pkey, unique_key_pkey. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT id, state, run_at, created_at, started_at, ends_at, expires_at, deadline, cancel_requested_at, worker, attempt,
           errors, crashes, unique_key,
           unique_key IS NOT NULL AND attempt = 0 AND state <> 'running' AND (ends_at IS NULL OR ends_at > now())
               AS has_key
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
               CASE WHEN errors + crashes > attempt
                    THEN format('%s errors and %s crashes in %s attempts', errors, crashes, attempt) END,
               CASE WHEN state <> 'blocked' AND NOT isfinite(run_at) THEN format('run_at %s', run_at) END,
               CASE WHEN cancel_requested_at IS NOT NULL AND ends_at IS DISTINCT FROM '-infinity'
                    THEN format('ends_at %s although a cancel was requested', ends_at)
                    WHEN cancel_requested_at IS NULL
                         AND ends_at IS DISTINCT FROM least(expires_at, deadline)
                         AND (attempt = 0 OR attempt = 1 AND state = 'running' OR ends_at IS DISTINCT FROM deadline)
                    THEN format('ends_at %s with expires_at %s and deadline %s', ends_at, expires_at, deadline) END
           ) AS what
      FROM looked
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
    SELECT 'waiting job whose key another one holds',
           format('job %s waits with the key %s, which job %s holds', looked.id, looked.unique_key, holder.job_id)
      FROM looked
     CROSS JOIN LATERAL (
           SELECT job_id FROM rowlock.unique_key WHERE key = looked.unique_key AND expires_at IS NULL LIMIT 1
           ) AS holder
     WHERE looked.has_key AND holder.job_id <> looked.id
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE looked.has_key OR NOT named.needs_key) AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$2::integer], '{}') AS examples
  FROM (
       VALUES ('live job whose columns disagree', false), ('live job from the future', false),
              ('waiting job whose key another one holds', true)
       ) AS named (invariant, needs_key)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant, named.needs_key
