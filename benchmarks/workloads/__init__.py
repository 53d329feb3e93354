"""The workloads: what is done with each system, and what is measured meanwhile."""
