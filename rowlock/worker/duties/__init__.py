"""Duties that all workers share: one worker at a time claims a duty, and does it in bounded steps."""
