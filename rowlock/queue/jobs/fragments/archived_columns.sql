-- The columns that the archive copies unchanged from a job.
id, run_at, attempt, args_version, args, {{lasting_columns}}
