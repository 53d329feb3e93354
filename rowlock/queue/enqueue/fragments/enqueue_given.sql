-- Enqueue the `given` job by the function that every language calls: its parameters, in their order.
rowlock.enqueue(
    task, args::jsonb, queue, priority, delay, run_at, max_attempts, timeout, unique_key, id,
    coalesce(expires_at, clock_timestamp() + expires_in), coalesce(deadline, clock_timestamp() + deadline_in),
    unique_until, unique_period, unique_across_tasks, on_duplicate, args_version, trace, {{job_marks}}
)
