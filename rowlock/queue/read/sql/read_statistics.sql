-- The jobs that ended in a span of time: in all, and by slot, by queue and by task.
--
-- $1 the length of the slots in seconds integer   $2 from when, the beginning of a slot   $3 until when
-- $4 only these queues text[], or null   $5 only this task, or null   $6 how many queues, and how many tasks, at most:
-- those with the most jobs
--
-- Returns a row for each: its kind (`total`, `slot`, `queue` or `task`), its name, the numbers, and the histograms.
-- Index: statistic_pkey. Takes no lock.
WITH part AS MATERIALIZED (
    SELECT at, queue, task, {{slot_counts}}
      FROM rowlock.statistic
     WHERE step = $1::integer AND at >= $2::timestamptz AND at < $3::timestamptz
       AND ($4::text[] IS NULL OR queue = ANY($4::text[]))
       AND ($5::text IS NULL OR task = $5::text)
), summed AS MATERIALIZED (
    SELECT grouping(at, queue, task) AS grouped, at, queue, task,
           coalesce(sum(succeeded), 0)::bigint AS succeeded, coalesce(sum(failed), 0)::bigint AS failed,
           coalesce(sum(cancelled), 0)::bigint AS cancelled, coalesce(sum(expired), 0)::bigint AS expired,
           coalesce(sum(errors), 0)::bigint AS errors,
           rank() OVER (
               PARTITION BY grouping(at, queue, task)
                   ORDER BY sum(succeeded + failed + cancelled + expired + errors) DESC, queue, task
           ) AS place
      FROM part
     GROUP BY GROUPING SETS ((), (at), (queue), (task))
), shown AS MATERIALIZED (
    SELECT grouped, at, queue, task, succeeded, failed, cancelled, expired, errors
      FROM summed
     WHERE place <= $6::integer OR at IS NOT NULL
), bucket AS (
    SELECT at, queue, task, true AS is_duration, unnest(duration_buckets) AS bucket, unnest(duration_counts) AS jobs
      FROM part
     UNION ALL
    SELECT at, queue, task, false, unnest(wait_buckets), unnest(wait_counts)
      FROM part
), by_bucket AS (
    SELECT grouping(at, queue, task) AS grouped, at, queue, task, is_duration, bucket, sum(jobs)::bigint AS jobs
      FROM bucket
     GROUP BY GROUPING SETS ((is_duration, bucket), (at, is_duration, bucket), (queue, is_duration, bucket),
                             (task, is_duration, bucket))
), timed AS (
    SELECT grouped, at, queue, task,
           array_agg(bucket ORDER BY bucket) FILTER (WHERE is_duration) AS duration_buckets,
           array_agg(jobs ORDER BY bucket) FILTER (WHERE is_duration) AS duration_counts,
           array_agg(bucket ORDER BY bucket) FILTER (WHERE NOT is_duration) AS wait_buckets,
           array_agg(jobs ORDER BY bucket) FILTER (WHERE NOT is_duration) AS wait_counts
      FROM by_bucket
     GROUP BY grouped, at, queue, task
)
SELECT CASE shown.grouped WHEN 7 THEN 'total' WHEN 3 THEN 'slot' WHEN 5 THEN 'queue' ELSE 'task' END AS what,
       shown.at, coalesce(shown.queue, shown.task) AS name, succeeded, failed, cancelled, expired, errors,
       coalesce(duration_buckets, '{}') AS duration_buckets, coalesce(duration_counts, '{}') AS duration_counts,
       coalesce(wait_buckets, '{}') AS wait_buckets, coalesce(wait_counts, '{}') AS wait_counts
  FROM shown
  LEFT JOIN timed
    ON timed.grouped = shown.grouped
   AND coalesce(timed.at, 'infinity') = coalesce(shown.at, 'infinity')
   AND coalesce(timed.queue, '') = coalesce(shown.queue, '')
   AND coalesce(timed.task, '') = coalesce(shown.task, '')
 ORDER BY shown.grouped, shown.at, succeeded + failed + cancelled + expired + errors DESC, name
