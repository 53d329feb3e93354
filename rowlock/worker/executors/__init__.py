"""Threads and processes in which tasks run. They know no queue."""
