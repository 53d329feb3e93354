"""Claim, fill the slots, wait for work, stop."""
