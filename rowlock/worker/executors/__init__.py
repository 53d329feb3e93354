"""Threads and processes that run tasks. This package knows nothing of queues."""
