-- Audit the ticks that fired: each created a job of its own, and none fired early. One row an invariant.
--
-- $1 from when   $2 how many ticks to check   $3 how many examples   $4 since when retention has removed no job; null: always
-- $5 the earliest end of their jobs: a parameter, so that earlier partitions are not locked
--
-- A job that an operator has deleted may be missing: `operation` has a row for it.
-- Reads rowlock.schedule_tick, of which upkeep keeps a week. Index: per row job_pkey, and finished_job_id of each partition
-- since $5; operation_target for those that are missing. Takes no lock beyond ACCESS SHARE.
WITH looked AS MATERIALIZED (
    SELECT schedule, tick_at, job_id, fired_at, coalesce(fired_at >= $4::timestamptz, true) AS is_kept
      FROM rowlock.schedule_tick
     WHERE fired_at >= $1::timestamptz
     LIMIT $2::integer
), broken AS (
    SELECT 'tick without its job' AS invariant,
           format('the tick of %s at %s made job %s, which is nowhere', schedule, tick_at, job_id) AS example
      FROM looked
     WHERE is_kept
       AND (SELECT job.id FROM rowlock.job WHERE job.id = looked.job_id) IS NULL
       AND (
           SELECT max(finished_job.attempt) FROM rowlock.finished_job
            WHERE finished_job.id = looked.job_id AND finished_job.finished_at >= $5::timestamptz
           ) IS NULL
       AND (
           SELECT max(at) FROM rowlock.operation
            WHERE target = looked.job_id::text AND target_kind = 'job' AND verb = 'delete'
           ) IS NULL
     UNION ALL
    SELECT 'job of two ticks', format('job %s was made by %s ticks, one of them %s', job_id, count(*), min(schedule))
      FROM looked
     GROUP BY job_id
    HAVING count(*) > 1
     UNION ALL
    SELECT 'tick from the future', format('the tick of %s at %s fired at %s', schedule, tick_at, fired_at)
      FROM looked
     WHERE tick_at > fired_at + interval '1 minute' OR fired_at > now() + interval '1 minute'
)
SELECT named.invariant, count(broken.example) AS broken,
       (SELECT count(*) FROM looked WHERE is_kept OR named.invariant <> 'tick without its job') AS looked_at,
       (SELECT count(*) >= $2::integer FROM looked) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$3::integer], '{}') AS examples
  FROM unnest(ARRAY['tick without its job', 'job of two ticks', 'tick from the future']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
