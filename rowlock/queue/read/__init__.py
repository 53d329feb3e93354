"""Read jobs, queues, statistics. Changes nothing."""
