"""Claim due jobs for one worker. It selects jobs, and runs none."""
