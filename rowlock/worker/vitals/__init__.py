"""A worker's lease, watchdog and counts."""
