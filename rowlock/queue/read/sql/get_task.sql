-- One task as the workers registered it. $1 its name. Index: task_pkey.
SELECT name, queue, priority, max_attempts, args_version FROM rowlock.task WHERE name = $1::text
