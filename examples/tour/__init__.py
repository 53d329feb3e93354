"""Runs every example of the documentation, against a PostgreSQL of its own."""
