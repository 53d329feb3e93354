-- Audit the statistics: a slot that was counted a second time counts no fewer ends than the archive still holds. One row.
--
-- $1 the length of a slot in seconds integer   $2 from when, and $5 until when, both beginnings of slots: that was counted twice
-- $3 how many rows of each archive to look at   $4 how many examples
--
-- All queues and tasks of a slot are compared at once, ended jobs and failed attempts together: a row keeps the count whose sum
-- is larger (count_finished.sql), so only the sum can be compared. What retention or a retry has removed is counted all the
-- same. A finish that committed more than two minutes after it was recorded is the one thing that a slot may miss.
-- Index: finished_job_finished_at and attempt_finished_at (BRIN), statistic_pkey. Run it where the planner does without
-- sequential scans. Takes no lock beyond ACCESS SHARE.
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
