"""Rowlock's tables, created by Django's migrations."""
