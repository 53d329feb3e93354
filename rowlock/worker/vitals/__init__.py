"""Whether a worker is well: its lease, its event loop, its memory, its counts."""
