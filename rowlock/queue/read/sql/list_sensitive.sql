-- The tasks whose jobs' arguments, results and errors are not shown.
SELECT name FROM rowlock.task WHERE is_sensitive ORDER BY name
