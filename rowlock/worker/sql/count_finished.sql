-- Count the archive's jobs and attempts by slots of time. A slot that was counted before keeps the larger count: jobs that
-- were retried or removed since then have ended all the same.
--
-- $1 length of a slot in seconds integer   $2 from, the beginning of a slot   $3 until
-- $4 how many queues and tasks are counted apart in a slot: those that it has already, then the most frequent
--
-- Returns how many slots it has written. Index: finished_job_finished_at and attempt_finished_at (BRIN), statistic_pkey. Run it with sequential scans off: the
-- planner may still believe that today's partition is empty. Locks: the rows that it writes, in their order.
WITH fact AS MATERIALIZED (
    SELECT date_bin($1::integer * interval '1 second', finished_at, 'epoch') AS at, queue, task, state,
           least(80, 1 + floor(2 / ln(2::float8) * ln(greatest(0.8, 1000 * date_part('epoch', finished_at - started_at)))))
               ::smallint AS duration,
           least(80, 1 + floor(2 / ln(2::float8) * ln(greatest(0.8, 1000 * date_part('epoch', started_at - run_at)))))
               ::smallint AS wait,
           started_at IS NOT NULL AS is_timed, count(*) AS jobs
      FROM rowlock.finished_job
     WHERE finished_at >= $2::timestamptz AND finished_at < $3::timestamptz
     GROUP BY 1, 2, 3, 4, 5, 6, 7
     UNION ALL
    SELECT date_bin($1::integer * interval '1 second', finished_at, 'epoch'), queue, task, 'error', NULL, NULL, false,
           count(*)
      FROM rowlock.attempt
     WHERE finished_at >= $2::timestamptz AND finished_at < $3::timestamptz
       AND outcome IN ('error', 'timeout', 'crashed', 'failed')  -- seam: counted attempts
     GROUP BY 1, 2, 3
), ranked AS MATERIALIZED (
    SELECT kind.at, kind.queue, kind.task,
           row_number() OVER (
               PARTITION BY kind.at ORDER BY known.at IS NOT NULL DESC, kind.jobs DESC, kind.queue, kind.task
           ) <= $4::integer AS is_named
      FROM (SELECT at, queue, task, sum(jobs) AS jobs FROM fact GROUP BY at, queue, task) AS kind
      LEFT JOIN rowlock.statistic AS known
        ON known.step = $1::integer AND (known.at, known.queue, known.task) = (kind.at, kind.queue, kind.task)
), named AS MATERIALIZED (
    SELECT at, CASE WHEN is_named THEN queue ELSE '*' END AS queue, CASE WHEN is_named THEN task ELSE '*' END AS task,
           state, is_timed, duration, wait, jobs
      FROM fact
      JOIN ranked USING (at, queue, task)
), timed AS (
    SELECT at, queue, task,
           {{bucket_arrays}}
      FROM (
           SELECT at, queue, task, is_duration, CASE WHEN is_duration THEN duration ELSE wait END AS bucket,
                  sum(jobs)::bigint AS jobs
             FROM named
            CROSS JOIN (VALUES (true), (false)) AS both_times (is_duration)
            WHERE is_timed
            GROUP BY 1, 2, 3, 4, 5
           ) AS by_bucket
     GROUP BY at, queue, task
), written AS (
    INSERT INTO rowlock.statistic AS kept (at, step, queue, task, {{slot_counts}})
    SELECT {{summed_slot}}
      FROM (
           SELECT at, queue, task,
                  coalesce(sum(jobs) FILTER (WHERE state = 'succeeded'), 0) AS succeeded,
                  coalesce(sum(jobs) FILTER (WHERE state = 'failed'), 0) AS failed,
                  coalesce(sum(jobs) FILTER (WHERE state = 'cancelled'), 0) AS cancelled,
                  coalesce(sum(jobs) FILTER (WHERE state = 'expired'), 0) AS expired,
                  coalesce(sum(jobs) FILTER (WHERE state = 'error'), 0) AS errors
             FROM named
            GROUP BY at, queue, task
           ) AS summed
      LEFT JOIN timed USING (at, queue, task)
     ORDER BY 1, 3, 4
        {{larger_count}}
    RETURNING at
)
SELECT count(*) AS slots FROM written
