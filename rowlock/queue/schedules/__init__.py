"""Schedules, and the arithmetic of their ticks. It does no I/O."""
