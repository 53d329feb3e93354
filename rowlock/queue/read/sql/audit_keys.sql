-- Audit the unique keys: a key that is held until its job finishes belongs to a live job with that key. One row an invariant.
--
-- $1 how many keys to check   $2 how long upkeep may leave a key whose period is over interval   $3 how many examples
--
-- Upkeep removes keys until the start of a job that is gone, and keys whose period is over (forget_unique_keys.sql);
-- the latter count only if a worker has lived for that long, and if the duty 'keys' has run that long after.
-- Index: unique_key_pkey, job_pkey. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT key, job_id, expires_at, until_start, expires_at IS NULL AND NOT until_start AS is_until_finish,
           (SELECT coalesce(job.unique_key, '') FROM rowlock.job WHERE job.id = unique_key.job_id) AS held
      FROM rowlock.unique_key
     ORDER BY key
     LIMIT $1::integer
), broken AS (
    SELECT 'unique key without its job' AS invariant,
           CASE WHEN held IS NULL THEN format('key %s is held by job %s, which is not live', key, job_id)
                ELSE format('key %s is held by job %s, whose key is %s', key, job_id, coalesce(nullif(held, ''), 'null'))
           END AS example
      FROM looked
     WHERE is_until_finish AND held IS DISTINCT FROM key
     UNION ALL
    SELECT 'unique key past its time',
           format('key %s, held for a period by job %s, ended at %s', key, job_id, expires_at)
      FROM looked
     WHERE {{is_left_over}}
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE looked.is_until_finish = named.is_until_finish) AS looked_at,
       (SELECT count(*) >= $1::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$3::integer], '{}') AS examples
  FROM (VALUES ('unique key without its job', true), ('unique key past its time', false))
       AS named (invariant, is_until_finish)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant, named.is_until_finish
