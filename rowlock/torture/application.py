"""The application of a run: the tasks of the enqueuing programs and those of the operating one."""

from typing import Final

from rowlock.torture import operated, workload

MODULES: Final = (workload, operated)
"""The modules whose tasks it has: importing them registers these."""
app: Final = workload.app
