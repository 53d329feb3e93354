"""A job that is not enqueued yet."""

from __future__ import annotations

from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from rowlock.queue.jobs.options import JobOptions

R = TypeVar("R")


class NewJob(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A job that is not enqueued yet: `task.job(...)` makes it, `app.enqueue_many([...])` stores it.

    Its arguments have been checked and are JSON already. Its id is fixed: enqueuing it twice stores it once.
    `unique_key` is its stored key, in the scope of its task (`task:key`) or of none (`:key`). `args_version` is the
    version of the task for which the arguments are written.
    """

    id: UUID
    task: str
    args: str
    options: JobOptions
    unique_key: str | None = None
    args_version: int = 1
