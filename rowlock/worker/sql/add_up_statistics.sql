-- Add up shorter slots to longer ones. A slot that exists already keeps the larger count.
--
-- $1 length of the longer slots in seconds integer   $2 length of the shorter slots integer, a divisor of $1
-- $3 from, the beginning of a longer slot   $4 until   $5 how many queues and tasks are counted apart, as in count_finished.sql
--
-- Index: statistic_pkey. Locks: the rows that it writes, in their order.
WITH part AS MATERIALIZED (
    SELECT date_bin($1::integer * interval '1 second', at, 'epoch') AS at, queue, task,
           {{slot_counts}}
      FROM rowlock.statistic
     WHERE step = $2::integer AND at >= $3::timestamptz AND at < $4::timestamptz
), ranked AS MATERIALIZED (
    SELECT kind.at, kind.queue, kind.task,
           row_number() OVER (
               PARTITION BY kind.at
                   ORDER BY kind.queue = '*', known.at IS NOT NULL DESC, kind.jobs DESC, kind.queue, kind.task
           ) <= $5::integer AS is_named
      FROM (
           SELECT at, queue, task, sum(succeeded + failed + cancelled + expired + errors) AS jobs
             FROM part
            GROUP BY at, queue, task
           ) AS kind
      LEFT JOIN rowlock.statistic AS known
        ON known.step = $1::integer AND (known.at, known.queue, known.task) = (kind.at, kind.queue, kind.task)
), named AS MATERIALIZED (
    SELECT at, CASE WHEN is_named THEN queue ELSE '*' END AS queue, CASE WHEN is_named THEN task ELSE '*' END AS task,
           {{slot_counts}}
      FROM part
      JOIN ranked USING (at, queue, task)
), timed AS (
    SELECT at, queue, task,
           {{bucket_arrays}}
      FROM (
           SELECT at, queue, task, true AS is_duration, bucket, sum(jobs)::bigint AS jobs
             FROM named
            CROSS JOIN unnest(duration_buckets, duration_counts) AS histogram (bucket, jobs)
            GROUP BY at, queue, task, bucket
            UNION ALL
           SELECT at, queue, task, false, bucket, sum(jobs)::bigint
             FROM named
            CROSS JOIN unnest(wait_buckets, wait_counts) AS histogram (bucket, jobs)
            GROUP BY at, queue, task, bucket
           ) AS by_bucket
     GROUP BY at, queue, task
)
INSERT INTO rowlock.statistic AS kept (at, step, queue, task, {{slot_counts}})
SELECT {{summed_slot}}
  FROM (
       SELECT at, queue, task, sum(succeeded) AS succeeded, sum(failed) AS failed, sum(cancelled) AS cancelled,
              sum(expired) AS expired, sum(errors) AS errors
         FROM named
        GROUP BY at, queue, task
       ) AS summed
  LEFT JOIN timed USING (at, queue, task)
 ORDER BY 1, 3, 4
    {{larger_count}}
