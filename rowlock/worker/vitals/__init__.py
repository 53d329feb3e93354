"""The health of a worker: its lease, event loop, memory and counts."""
