"""Schedules and their arithmetic. Pure."""
