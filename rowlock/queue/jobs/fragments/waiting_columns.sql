-- The archived columns, of a job that waited: a blocked one keeps its own due time in `due_at`.
id, coalesce(due_at, run_at) AS run_at, attempt, args_version, args, {{lasting_columns}}
