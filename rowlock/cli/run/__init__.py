"""Run processes: workers, supervisors, reloads."""
