"""Authenticate a request, and decide what it may do."""
