"""The process task of a run: its handler runs in a process of its own, and logs in its worker's name."""

from __future__ import annotations

import os
import threading
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from rowlock.queue.jobs.job import Job
from rowlock.torture.history import End, History, Start

if TYPE_CHECKING:
    from rowlock.app import Rowlock
    from rowlock.queue.enqueue.task import Task

NAME: Final = "torture.process"
MEMORY_LIMIT: Final = 512 * 1024**2
"""The memory limit of a process task's process, in bytes."""
_WORKER: Final = os.getppid()
"""The worker that started this process: read at import, because an orphan has another parent."""


@lru_cache
def _history() -> History:
    return History(Path(os.environ["ROWLOCK_TORTURE_FOLDER"]), os.environ["ROWLOCK_TORTURE_NAME"])


def compute(job: Job, seconds: float, hoards: bool = False) -> dict[str, str]:  # noqa: FBT001, FBT002  # a job's argument
    """Take so many seconds; `hoards`: the first attempt tries to use more memory than the process may."""
    run = uuid4().hex
    start = Start(job=job.id, attempt=job.attempt, run=run, task=job.task, worker=_WORKER)
    _history().write(start)
    try:
        threading.Event().wait(seconds)  # not time.sleep(), which a wrong clock by libfaketime breaks
        if hoards and job.errors == 0:
            bytearray(2 * MEMORY_LIMIT)
    except BaseException:
        _history().write(End(job=job.id, attempt=job.attempt, run=run, how="error"))
        raise
    _history().write(End(job=job.id, attempt=job.attempt, run=run, how="return"))
    return {"run": run}


def declare(app: Rowlock) -> Task[[float, bool], dict[str, str]]:
    """Add the process task to an application."""
    return app.task(name=NAME, executor="process", backoff=0.2)(compute)


__all__ = ["MEMORY_LIMIT", "NAME", "compute", "declare"]
