-- The sensitive tasks: the arguments, results and errors of their jobs are not shown.
SELECT name FROM rowlock.task WHERE is_sensitive ORDER BY name
