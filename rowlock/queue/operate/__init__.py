"""What operators do to jobs, queues, workers, schedules and keys. Each act is recorded in the table `operation`."""
