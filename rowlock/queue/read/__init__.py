"""Read jobs, queues, statistics and operations. It changes nothing."""
