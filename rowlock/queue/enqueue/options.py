"""The options of one job: as callers give them, and as they are stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypedDict

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.new_job import JobOptions
from rowlock.queue.jobs.unique import Unique, parse_unique

if TYPE_CHECKING:
    from rowlock.queue.jobs.unique import Arguments


class EnqueueOptions(TypedDict, total=False):
    """What `task.using(...)`, `app.enqueue(...)` and `app.job(...)` take. What is left out, or None, is the task's.

    `queue`, `priority` and `max_attempts`: of this job. `delay` (seconds or a `timedelta`) or `run_at` (an aware
    `datetime`): not before. `timeout`: of each attempt, in seconds or as a `timedelta`. `expires`: a job that has not
    started by then never runs. `deadline`: by then the job is over, one way or the other; both in seconds or as a
    `timedelta` from the enqueue on, or as an aware `datetime`. `unique`: while a job of this task with this key is not
    finished, no second one is stored; a `Unique` has other rules. `tags`: words to find the job by, besides those of
    the task. `metadata`: texts by key to find the job by, over those of the task.
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


def refuse_unknown(given: EnqueueOptions) -> None:
    """Raise `TypeError` for what is no option of a job."""
    if unknown := given.keys() - NAMES:
        known = ", ".join(sorted(NAMES))
        raise TypeError(f"got an unexpected keyword argument {min(unknown)!r}; the options of a job are {known}")


def checked(
    given: EnqueueOptions, usual: JobOptions, arguments: Arguments | None = None, *, trace: str | None = None
) -> JobOptions:
    """The options of a job whose task has the `usual` ones. `arguments`: those of its function, if that is known.

    Raises `InvalidOption`, and `TypeError` for what is no option.
    """
    refuse_unknown(given)
    delay, run_at = given.get("delay"), given.get("run_at")
    if delay is not None and run_at is not None:
        raise InvalidOption("delay and run_at are both given: give one of them.")
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


__all__ = ["NAMES", "EnqueueOptions", "checked", "refuse_unknown"]
