"""Duties that all workers share: each is claimed by one worker at a time, and done in bounded steps."""
