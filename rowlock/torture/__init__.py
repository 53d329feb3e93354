"""Proves the guarantees: real processes work while faults hit them, and a checker compares what happened with them.

Every process writes down what it does, and the database writes down every change. `rowlock torture` runs it all: it
makes a PostgreSQL server of its own, in a temporary folder, and never touches another one.
"""
