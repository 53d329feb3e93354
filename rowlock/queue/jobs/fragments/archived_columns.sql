-- The columns that a job takes into the archive as they are.
id, run_at, attempt, args_version, args, {{lasting_columns}}
