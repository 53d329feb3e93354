"""Rowlock's tables by way of Django's migrations."""
