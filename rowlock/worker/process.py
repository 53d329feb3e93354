"""What a process does that is a worker and nothing else."""

from __future__ import annotations

import gc
from typing import Final

YOUNGEST_OBJECTS: Final = 50_000
"""How many new objects may come before the collector looks for cycles among them; Python's own default is 700."""


def settle_in() -> None:
    """Have Python's cycle collector leave alone what is loaded by now, and come by less often.

    A worker makes a few dozen objects a job, nearly all of which are freed by their reference counts at once. For
    processes that are a worker alone, as `rowlock worker` is: the setting holds for the whole process. Call it once the
    application is imported.
    """
    gc.collect()
    gc.freeze()
    _, middle, oldest = gc.get_threshold()
    gc.set_threshold(YOUNGEST_OBJECTS, middle, oldest)
