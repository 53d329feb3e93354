"""The fault-injection suite: real processes work under faults, and a checker compares the run with the guarantees.

Every process logs its actions, and the database logs every change. `rowlock torture` runs it all: it creates a
PostgreSQL server in a temporary folder, and never touches another one.
"""
