"""Settings of a process that runs a worker and nothing else."""

from __future__ import annotations

import gc
from typing import Final

YOUNGEST_OBJECTS: Final = 50_000
"""The threshold of new objects at which the collector looks for cycles among them; Python's default is 700."""


def settle_in() -> None:
    """Make Python's cycle collector skip all objects that exist now, and run less often.

    A worker makes a few dozen objects a job; their reference counts free nearly all of them at once. The setting holds
    for the whole process, so call it only in a process that runs a worker and nothing else, as `rowlock worker` does.
    Call it once the application is imported.
    """
    gc.collect()
    gc.freeze()
    _, middle, oldest = gc.get_threshold()
    gc.set_threshold(YOUNGEST_OBJECTS, middle, oldest)
