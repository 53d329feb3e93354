"""Read jobs, queues, statistics, operations. It changes nothing."""
