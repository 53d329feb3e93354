-- Audit the workers' rows: none stays long after its lease has run out while another worker lives, and none began ahead of
-- the clock. One row an invariant.
--
-- $1 how long an expired row may stay interval   $2 how many examples
--
-- A row whose worker still has jobs stays for these (audit_running.sql); a lease that its worker ended has no time.
-- Reads rowlock.worker, which is small. Index: holding_pkey, job_pkey. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT id, hostname, pid, started_at, expires_at FROM rowlock.worker
), broken AS (
    SELECT 'expired worker left behind' AS invariant,
           format('worker %s (process %s on %s) expired at %s', id, pid, hostname, expires_at) AS example
      FROM looked
     WHERE isfinite(expires_at)
       AND expires_at < now() - $1::interval
       AND NOT EXISTS (
           SELECT FROM rowlock.job
            WHERE job.id = ANY(ARRAY({{held_ids}} WHERE holding.worker = looked.id)) AND job.worker = looked.id
           )
       AND EXISTS (SELECT FROM looked AS other WHERE other.expires_at > now() AND other.started_at < now() - $1::interval)
     UNION ALL
    SELECT 'worker from the future', format('worker %s (process %s on %s) started at %s', id, pid, hostname, started_at)
      FROM looked
     WHERE started_at > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken, (SELECT count(*) FROM looked) AS looked_at, false AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$2::integer], '{}') AS examples
  FROM unnest(ARRAY['expired worker left behind', 'worker from the future']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
