-- The tasks that workers have registered.
SELECT name, queue, priority, max_attempts, args_version, is_sensitive FROM rowlock.task ORDER BY name
