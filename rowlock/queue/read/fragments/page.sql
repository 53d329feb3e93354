-- The page of the `found` jobs. If these are fewer than $17, one more row (is_end) is the first job that was not checked:
-- the time was over, or the job is `beyond` the limit of the search.
-- $19 whether to return arguments and results: without them it does not read them
SELECT id, created_at, CASE WHEN $19::boolean THEN args ELSE '{}' END AS args,
       CASE WHEN NOT $19::boolean OR result IS NULL THEN NULL
            WHEN finished_at < now() - (SELECT result_ttl FROM rowlock.task WHERE task.name = found.task) THEN NULL
            ELSE result
       END AS result,
       {{shown_columns}},
       coalesce((SELECT known.is_sensitive FROM rowlock.task AS known WHERE known.name = found.task), false) AS is_sensitive,
       false AS is_end
  FROM found
 WHERE fits
 UNION ALL
SELECT id, created_at, NULL, NULL, {{null shown_columns}}, NULL, true
  FROM (
       (SELECT id, created_at FROM found WHERE fits IS NULL ORDER BY id DESC LIMIT 1)
        UNION ALL
       SELECT id, created_at FROM beyond
       ) AS ended
 WHERE (SELECT count(*) FROM found WHERE fits) < $17::integer
 ORDER BY id DESC
