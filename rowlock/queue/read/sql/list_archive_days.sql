-- The days of the archive, oldest first: about how many jobs, how many bytes, and when retention removes them. No parameters.
--
-- `next_at`: the next removal from the day. `gone_at`: when the day is empty; null if some jobs are kept for ever.
-- Reads the catalog, and the few rows of rowlock.queue.
WITH said AS MATERIALIZED (
    SELECT queue.name, one.keep
      FROM rowlock.queue
     CROSS JOIN LATERAL (
           VALUES (keep_succeeded), (keep_failed), (keep_cancelled), (keep_expired)
           ) AS one (keep)
     WHERE one.keep IS NOT NULL
), plan AS MATERIALIZED (
    SELECT count(*) FILTER (WHERE name = '*') < 4 OR coalesce(bool_or(keep >= '900 years'), true) AS is_for_ever,
           max(keep) AS longest
      FROM said
), total AS MATERIALIZED (
    SELECT day, (day + 1)::timestamp AT TIME ZONE 'UTC' AS ended,
           sum(about_rows) FILTER (WHERE archive = 'finished_job')::bigint AS jobs,
           sum(bytes) FILTER (WHERE archive = 'finished_job')::bigint AS bytes,
           sum(bytes) FILTER (WHERE archive <> 'finished_job')::bigint AS attempt_bytes
      FROM rowlock.archive_day
     GROUP BY day
)
SELECT day, coalesce(jobs, 0) AS jobs, coalesce(bytes, 0) AS bytes, coalesce(attempt_bytes, 0) AS attempt_bytes,
       (SELECT min(ended + keep) FROM said WHERE keep < '900 years' AND ended + keep > now()) AS next_at,
       CASE WHEN NOT plan.is_for_ever THEN ended + plan.longest END AS gone_at
  FROM total
 CROSS JOIN plan
 ORDER BY day
