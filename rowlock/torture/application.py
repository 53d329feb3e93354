"""The application of a run: the tasks of the enqueuing programs and of the operating program."""

from typing import Final

from rowlock.torture import operated, workload

MODULES: Final = (workload, operated)
"""The modules of its tasks: importing them registers the tasks."""
app: Final = workload.app
