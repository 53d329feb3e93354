"""Claim due jobs for one worker."""
