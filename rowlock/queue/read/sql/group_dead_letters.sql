-- The dead letters by task and error: how many of each, and when the first and the last of them ended.
--
-- $1 to $16 the filter, see job_filter.sql   $17 how many groups at most, or null
-- $18 the time limit of the search interval: if it was too short, one more row has the time back to which it searched
-- (searched_until)   $19 the tasks whose errors are grouped together text[]   $20 that ended from then on   $21 and before then
-- Reads the newest 50,000 dead letters. It computes the kind once for each different line, in 5 us.
-- Index: finished_job_unsuccessful of each partition, merged, backwards.
WITH looked AS MATERIALIZED (
    SELECT id, created_at, finished_at, task, fits,
           CASE WHEN fits THEN left(split_part(coalesce(error, ''), E'\n', 1), 200) END AS line
      FROM (
           SELECT id, created_at, finished_at, task, error,
                  CASE WHEN clock_timestamp() <= (SELECT clock_timestamp() + $18::interval) THEN coalesce(
                          {{job_filter}}
                      , false)
                  END AS fits
             FROM (
                  SELECT id, state, queue, task, error, args, {{job_marks}}, created_at, finished_at, discarded_at
                    FROM rowlock.finished_job
                   WHERE state = $1::text AND state <> 'succeeded' AND id > $4::uuid AND id < $5::uuid
                     AND finished_at >= $20::timestamptz AND finished_at < $21::timestamptz
                   ORDER BY id DESC
                   LIMIT 50000
                  ) AS seen
            ORDER BY id DESC
           ) AS every
     WHERE fits IS NOT FALSE
), by_line AS MATERIALIZED (
    SELECT task, line, count(*) AS jobs, min(finished_at) AS first_at, max(finished_at) AS last_at
      FROM looked
     WHERE fits
     GROUP BY task, line
), by_kind AS MATERIALIZED (
    SELECT task, CASE WHEN task = ANY($19::text[]) THEN '' ELSE rowlock.error_kind(line) END AS error,
           task = ANY($19::text[]) AS is_sensitive, sum(jobs)::bigint AS jobs,
           min(first_at) AS first_at, max(last_at) AS last_at
      FROM by_line
     GROUP BY 1, 2, 3
)
(
SELECT task, error, is_sensitive, jobs, first_at, last_at, NULL::timestamptz AS searched_until
  FROM by_kind
 ORDER BY jobs DESC, last_at DESC
 LIMIT $17::integer
)
 UNION ALL
(
SELECT NULL, NULL, NULL, NULL, NULL, NULL, created_at
  FROM looked
 WHERE fits IS NULL
 ORDER BY id DESC
 LIMIT 1
)
