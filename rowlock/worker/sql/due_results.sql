-- The next span of time whose results of one task are due for removal: between the last run and now, and within one window of
-- the archive, so that a statement with this span locks only the partitions of that window.
--
-- $1 the task   $2 length of the span interval
--
-- Returns its begin, its end, and whether it is the last due span; no row if the task keeps its results. Run it in the
-- transaction of remove_results.sql.
-- Index: task_pkey; the catalog. Locks: the task's row.
SELECT since, until, until >= due AS is_last
  FROM (
       SELECT since, due, least(since + $2::interval, due, (
                  SELECT min(span.high) FROM rowlock.archive_windows('finished_job') AS span WHERE span.high > since
              )) AS until
         FROM (
              SELECT greatest(results_removed_until, now() - interval '30 years') AS since,
                     now() - result_ttl - interval '5 minutes' AS due
                FROM rowlock.task
               WHERE name = $1::text AND result_ttl IS NOT NULL
                 FOR NO KEY UPDATE
              ) AS task
       ) AS part
