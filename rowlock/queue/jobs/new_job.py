"""A job that is not enqueued yet."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Generic, TypeVar
from uuid import UUID

import msgspec

from rowlock.queue.jobs.unique import Unique

R = TypeVar("R")


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The options of a job, checked: those of its task, unless `task.using(...)` gave others. Many jobs share one."""

    queue: str
    priority: int
    max_attempts: int
    timeout: timedelta | None = None
    delay: timedelta | None = None
    run_at: datetime | None = None
    unique: Unique | None = None
    expires: timedelta | datetime | None = None
    deadline: timedelta | datetime | None = None
    tags: tuple[str, ...] | None = None
    metadata: str | None = None
    """As JSON."""
    trace: str | None = None

    @property
    def are_plain(self) -> bool:
        """Whether a job of these options is due at once, with nothing of its own but a queue and numbers."""
        return (
            self.delay is None
            and self.run_at is None
            and self.timeout is None
            and self.unique is None
            and self.expires is None
            and self.deadline is None
            and self.tags is None
            and self.metadata is None
            and self.trace is None
        )


class NewJob(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A job that is not enqueued yet: what `task.job(...)` makes and `app.enqueue_many([...])` takes.

    Its arguments have been checked and are JSON already. Its id is fixed: enqueuing it twice stores it once.
    `unique_key` is its key as it is stored, in the scope of its task (`task:key`) or of none (`:key`). `args_version`
    is the version of the task for which the arguments are written.
    """

    id: UUID
    task: str
    args: str
    options: JobOptions
    unique_key: str | None = None
    args_version: int = 1
