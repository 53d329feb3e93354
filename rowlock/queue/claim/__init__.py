"""Claim due jobs for one worker. It decides which jobs, and runs none."""
