"""Tests of applications: run enqueued jobs, inspect them, and move time, on a real PostgreSQL.

Everything works on the application itself and on rows: the worker's own code claims, performs and records the jobs.
The pytest plugin (`pytest_rowlock`) gives each test a database of its own.
"""

from rowlock.testing.clock import fire_schedules, move_time
from rowlock.testing.databases import Databases, use_database
from rowlock.testing.drain import Attempted, Drained, drain
from rowlock.testing.expect import (
    assert_enqueued,
    assert_enqueued_sync,
    assert_not_enqueued,
    assert_not_enqueued_sync,
    enqueued,
    enqueued_sync,
)
from rowlock.testing.perform import perform, perform_job

__all__ = [
    "Attempted",
    "Databases",
    "Drained",
    "assert_enqueued",
    "assert_enqueued_sync",
    "assert_not_enqueued",
    "assert_not_enqueued_sync",
    "drain",
    "enqueued",
    "enqueued_sync",
    "fire_schedules",
    "move_time",
    "perform",
    "perform_job",
    "use_database",
]
