"""Acts of operators on jobs, queues, workers, schedules and keys. The table `operation` records each act."""
