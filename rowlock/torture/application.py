"""The application of a run: the tasks of the enqueuing programs and those of the operating one."""

from rowlock.torture import operated as _operated  # registers its tasks
from rowlock.torture.workload import app

__all__ = ["app"]

TASKS = tuple(app.tasks)
"""The names of all tasks."""
_ = _operated
