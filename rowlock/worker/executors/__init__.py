"""Threads and processes in which tasks run."""
