"""The options of one job: as callers and tasks give them, and as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Self, TypedDict

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.unique import Unique, parse_unique

if TYPE_CHECKING:
    from rowlock.queue.jobs.job import Job
    from rowlock.queue.jobs.unique import Arguments

DEFAULT_QUEUE: Final = "default"
DEFAULT_PRIORITY: Final = 5
DEFAULT_MAX_ATTEMPTS: Final = 10

MARKS: Final = ("tags", "metadata")
"""The columns by which people find a job, as `job_marks.sql` has them."""


class EnqueueOptions(TypedDict, total=False):
    """The options of `task.using(...)`, `app.enqueue(...)` and `app.job(...)`. None or omitted: the task's option.

    `queue`, `priority` and `max_attempts`: of this job. `delay` (seconds or a `timedelta`) or `run_at` (an aware
    `datetime`): the job does not start before. `timeout`: of each attempt, in seconds or as a `timedelta`. `expires`: a
    job that has not started by then never runs. `deadline`: the job ends by then, in any case; both in seconds or as a
    `timedelta` from the enqueue on, or as an aware `datetime`. `unique`: while a job of this task with this key is not
    finished, no second one is stored; a `Unique` has other rules. `tags`: words to find the job by, in addition to
    those of the task. `metadata`: texts by key to find the job by; they override those of the task.
    """

    queue: str | None
    priority: int | None
    delay: timedelta | float | None
    run_at: datetime | None
    max_attempts: int | None
    timeout: timedelta | float | None
    expires: timedelta | float | datetime | None
    deadline: timedelta | float | datetime | None
    unique: Unique | str | None
    tags: Sequence[str]
    metadata: Mapping[str, str] | None


NAMES: Final = frozenset(EnqueueOptions.__annotations__)


class JobDefaults(TypedDict, total=False):
    """The job options that a task may set for its jobs, and an application for all its tasks."""

    queue: str
    priority: int
    max_attempts: int
    expires: timedelta | float | datetime | None
    deadline: timedelta | float | datetime | None
    tags: Sequence[str]
    metadata: Mapping[str, str] | None


class TaskJobs(JobDefaults, total=False):
    """The job options that `@app.task` accepts."""

    unique: Unique | str | None


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The checked options of a job: those of its task, overridden by `task.using(...)`. Many jobs share one object."""

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

    @classmethod
    def like(cls, job: Job) -> Self:
        """The options of a new job that is like this one."""
        return cls(
            queue=job.queue,
            priority=job.priority,  # seam: run again
            max_attempts=job.max_attempts,
            timeout=job.timeout,
            tags=tuple(job.tags) or None,
            metadata=job.metadata_json,
        )

    @property
    def are_plain(self) -> bool:
        """Whether a job of these options is due at once and has no other options than a queue and numbers."""
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

    @property
    def marks(self) -> str | None:
        """The given `MARKS`, as JSON; None if there are none."""
        marks: dict[str, object] = {name: given for name in MARKS if (given := getattr(self, name)) is not None}
        if self.metadata is not None:
            marks["metadata"] = msgspec.Raw(self.metadata.encode())
        return msgspec.json.encode(marks).decode() if marks else None


def refuse_unknown(given: EnqueueOptions) -> None:
    """Raise `TypeError` for an unknown option."""
    if unknown := given.keys() - NAMES:
        known = ", ".join(sorted(NAMES))
        raise TypeError(f"got an unexpected keyword argument {min(unknown)!r}; the options of a job are {known}")


def checked(
    given: EnqueueOptions, usual: JobOptions, arguments: Arguments | None = None, *, trace: str | None = None
) -> JobOptions:
    """Check the options of a job whose task has the `usual` ones. `arguments`: those of its function, if that is known.

    Raises `InvalidOption`, and `TypeError` for an unknown option.
    """
    refuse_unknown(given)
    delay, run_at = given.get("delay"), given.get("run_at")
    if delay is not None and run_at is not None:
        raise InvalidOption("delay and run_at must not both be given. Use one of them.")
    queue, priority, max_attempts = given.get("queue"), given.get("priority"), given.get("max_attempts")
    expires, deadline, unique = given.get("expires"), given.get("deadline"), given.get("unique")
    made = JobOptions(
        queue=usual.queue if queue is None else checks.queue_name(queue),
        priority=usual.priority if priority is None else checks.priority(priority),
        max_attempts=usual.max_attempts if max_attempts is None else checks.max_attempts(max_attempts),
        delay=checks.delay(delay),
        run_at=checks.run_at(run_at),
        timeout=checks.timeout(given.get("timeout")),
        expires=usual.expires if expires is None else checks.limit_in_time("expires", expires),
        deadline=usual.deadline if deadline is None else checks.limit_in_time("deadline", deadline),
        unique=usual.unique if unique is None else parse_unique(unique, arguments),
        tags=checks.tags(given.get("tags", ()), usual.tags or ()),
        metadata=checks.metadata(given.get("metadata"), usual.metadata),
        trace=checks.trace(trace),
    )
    checks.times(delay=made.delay, run_at=made.run_at, expires=made.expires, deadline=made.deadline)
    return made


def checked_usual(given: TaskJobs, arguments: Arguments) -> JobOptions:
    """Check the options of a task's jobs, whose function has these `arguments`. Raises `InvalidOption`."""
    return JobOptions(
        queue=checks.queue_name(given.get("queue", DEFAULT_QUEUE)),
        priority=checks.priority(given.get("priority", DEFAULT_PRIORITY)),
        max_attempts=checks.max_attempts(given.get("max_attempts", DEFAULT_MAX_ATTEMPTS)),
        expires=checks.limit_in_time("expires", given.get("expires")),
        deadline=checks.limit_in_time("deadline", given.get("deadline")),
        unique=parse_unique(given.get("unique"), arguments),
        tags=checks.tags(given.get("tags", ())),
        metadata=checks.metadata(given.get("metadata")),
    )


__all__ = [
    "DEFAULT_MAX_ATTEMPTS",
    "DEFAULT_PRIORITY",
    "DEFAULT_QUEUE",
    "MARKS",
    "NAMES",
    "EnqueueOptions",
    "JobDefaults",
    "JobOptions",
    "TaskJobs",
    "checked",
    "checked_usual",
    "refuse_unknown",
]
