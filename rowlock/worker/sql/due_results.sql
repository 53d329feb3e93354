-- The next part of the time in which results of one task are due to be removed: between the last run and now, and within one window of
-- the archive, so that a statement which names it locks the partitions of that window alone.
--
-- $1 the task   $2 the length of that part interval
--
-- Returns when it begins and ends, and whether all that is due now is done after it; no row if the task keeps its results. Run it
-- in the transaction of remove_results.sql.
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
