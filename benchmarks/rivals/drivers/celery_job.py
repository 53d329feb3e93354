"""The job that Celery runs, and the application that its worker processes import."""

from __future__ import annotations

import mmap
import os
import struct
import time
from pathlib import Path
from typing import Any

from billiard import current_process  # type: ignore[import-not-found]  # lives in an environment of its own
from celery import Celery  # type: ignore[import-not-found]  # see above

SLOTS = 64
SLOT = struct.Struct("qq")
"""A process's count, and when its first job began: each process of the pool writes a slot of its own."""

app = Celery("benchmark", broker=os.environ["BENCHMARK_BROKER"])
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=int(os.environ.get("BENCHMARK_PREFETCH", "4")),
    worker_hijack_root_logger=False,
)
_tally: dict[int, Any] = {}


def handle(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
    """Count the job, in the file that the driver reads."""
    shared = _tally.get(os.getpid())
    if shared is None:
        with Path(os.environ["BENCHMARK_TALLY"]).open("r+b") as file:
            shared = _tally[os.getpid()] = mmap.mmap(file.fileno(), 0)
    place = current_process().index * SLOT.size
    handled, first = SLOT.unpack_from(shared, place)
    SLOT.pack_into(shared, place, handled + 1, first or time.monotonic_ns())


job = app.task(name="job")(handle)
