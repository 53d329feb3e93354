-- Audit the statistics: a slot that was counted a second time has at least as many ends as the archive still has. One row.
--
-- $1 the length of a slot in seconds integer
-- $2 from when, and $5 until when, both beginnings of slots: this time was counted twice
-- $3 how many rows of each archive to check   $4 how many examples
--
-- It compares the sum of a slot: over all queues and tasks, ended jobs and failed attempts together. A row keeps the count
-- with the larger sum (count_finished.sql), so only the sum can be compared. Jobs that retention or a retry has removed still
-- count. A slot may miss only a finish that committed more than two minutes after it was recorded.
-- Index: finished_job_finished_at and attempt_finished_at (BRIN), statistic_pkey. Run it with sequential scans off.
-- Takes no lock beyond ACCESS SHARE.
WITH ended AS MATERIALIZED (
    (
    SELECT finished_at FROM rowlock.finished_job
     WHERE finished_at >= $2::timestamptz AND finished_at < $5::timestamptz
     LIMIT $3::integer
    )
     UNION ALL
    (
    SELECT finished_at FROM rowlock.attempt
     WHERE finished_at >= $2::timestamptz AND finished_at < $5::timestamptz
       AND outcome IN ('error', 'timeout', 'crashed', 'failed')
     LIMIT $3::integer
    )
), looked AS MATERIALIZED (
    SELECT slot.at, slot.ends, (
               SELECT coalesce(sum(succeeded + failed + cancelled + expired + errors), 0) FROM rowlock.statistic
                WHERE statistic.step = $1::integer AND statistic.at = slot.at
           ) AS counted
      FROM (
           SELECT date_bin($1::integer * interval '1 second', finished_at, 'epoch') AS at, count(*) AS ends
             FROM ended
            GROUP BY 1
           ) AS slot
), broken AS (
    SELECT 'slot of statistics that counts too few' AS invariant,
           format('the %s seconds from %s count %s ends, the archive holds %s', $1::integer, at, counted, ends) AS example
      FROM looked
     WHERE counted < ends
)
SELECT named.invariant, count(broken.example) AS broken, (SELECT count(*) FROM looked) AS looked_at,
       (SELECT count(*) >= $3::integer FROM ended) AS is_cut,
       coalesce((array_agg(broken.example) FILTER (WHERE broken.example IS NOT NULL))[1:$4::integer], '{}') AS examples
  FROM unnest(ARRAY['slot of statistics that counts too few']) AS named (invariant)
  LEFT JOIN broken ON broken.invariant = named.invariant
 GROUP BY named.invariant
