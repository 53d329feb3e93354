"""Acts of operators on jobs, queues, workers, schedules and keys; each is recorded."""
