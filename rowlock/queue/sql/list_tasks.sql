-- The tasks that workers have registered.
SELECT name, queue, priority, max_attempts FROM rowlock.task ORDER BY name
