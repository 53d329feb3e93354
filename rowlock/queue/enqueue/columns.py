"""Map a new job to table columns and statement parameters."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rowlock.errors import InvalidOption
from rowlock.queue.jobs.options import MARKS, JobOptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rowlock.queue.jobs.new_job import NewJob
    from rowlock.queue.jobs.options import JobOptions
    from rowlock.queue.jobs.unique import Unique

PLAIN: Final = ("id", "queue", "task", "priority", "max_attempts", "args", "args_version")
TIMED: Final = (*PLAIN, "run_at", "timeout", "ends_at", "expires_at", "deadline", "trace", *MARKS)


def plain(job: NewJob[Any]) -> tuple[object, ...]:
    """The values of the columns `PLAIN`."""
    options = job.options
    # seam: plain columns
    return (job.id, options.queue, job.task, options.priority, options.max_attempts, job.args, job.args_version)


def parameters(job: NewJob[Any]) -> tuple[object, ...]:
    """The parameters of enqueue.sql for a job."""
    options = job.options
    return (
        job.task,
        job.args,
        options.queue,
        options.priority,
        options.delay,
        options.run_at,
        options.max_attempts,
        options.timeout,
        job.unique_key and job.unique_key.partition(":")[2],
        job.id,
        *limits(options),
        *unique_rules(options.unique),
        job.args_version,
        options.trace,
        options.marks,
    )


def timed(job: NewJob[Any], now: datetime) -> tuple[object, ...]:
    """The values of the columns that `TIMED` adds; a delay counts from `now`. Raises `InvalidOption`."""
    check_due(job, now)
    options = job.options
    given = options.delay if options.run_at is None else options.run_at  # seam: due at
    run_at = max(now, _moment(given, now) or now)
    expires_at, deadline = _moment(options.expires, now), _moment(options.deadline, now)
    ends_at = min((limit for limit in (expires_at, deadline) if limit is not None), default=None)
    marks = (getattr(options, name) for name in MARKS)
    # seam: timed columns
    return (run_at, options.timeout, ends_at, expires_at, deadline, options.trace, *marks)


def needs_clock(options: JobOptions) -> bool:
    """Whether only the database's clock shows if such a job would end before it is due: one time is a moment, the other
    counts from the enqueue on.
    """
    due = _asked_for(options)
    limits = [limit for limit in (options.expires, options.deadline) if limit is not None]
    return due is not None and any(isinstance(limit, timedelta) != isinstance(due, timedelta) for limit in limits)


def check_due(job: NewJob[Any], now: datetime) -> None:
    """Raise `InvalidOption` for a job that would end before it is due, as `rowlock.enqueue` does for SQL."""
    options = job.options
    due = _moment(_asked_for(options), now)
    for option, given in (("expires", options.expires), ("deadline", options.deadline)):
        limit = _moment(given, now)
        if due is not None and limit is not None and limit <= due:
            raise InvalidOption(
                f"{option} must be after the job of {job.task} is due, at {due}; got {limit}. Use a later time.",
                option=option,
            )


def _asked_for(options: JobOptions) -> timedelta | datetime | None:
    """The requested due time, if not at once."""
    return options.delay if options.run_at is None else options.run_at


def _moment(given: timedelta | datetime | None, now: datetime) -> datetime | None:
    return now + given if isinstance(given, timedelta) else given


def at_or_in(given: timedelta | datetime | None) -> tuple[datetime | None, timedelta | None]:
    """A limit as a moment and as a duration: one of the two is None."""
    return (None, given) if isinstance(given, timedelta) else (given, None)


def limits(options: JobOptions) -> tuple[datetime | timedelta | None, ...]:
    """The expiry and the deadline of jobs with these options, each in the form of `at_or_in`."""
    return (*at_or_in(options.expires), *at_or_in(options.deadline))


def of_task(options: JobOptions | None) -> tuple[datetime | timedelta | str | None, ...]:
    """The task's options for a schedule's job that the table of tasks does not store."""
    return (None,) * 5 if options is None else (*limits(options), options.marks)


def _at_and_in(
    given: Iterable[timedelta | datetime | None],
) -> tuple[list[datetime | None], list[timedelta | None]]:
    pairs = [at_or_in(one) for one in given]
    return [at for at, _ in pairs], [after for _, after in pairs]


def arrays(jobs: Sequence[NewJob[Any]]) -> tuple[list[Any], ...]:
    """The parameters of enqueue_many.sql and enqueue_unique.sql for all jobs."""
    return (
        [job.id for job in jobs],
        [job.options.queue for job in jobs],
        [job.task for job in jobs],
        [job.options.priority for job in jobs],
        [job.options.delay for job in jobs],
        [job.options.run_at for job in jobs],
        [job.options.max_attempts for job in jobs],
        [job.options.timeout for job in jobs],
        [job.args for job in jobs],
        *_at_and_in([job.options.expires for job in jobs]),
        *_at_and_in([job.options.deadline for job in jobs]),
        [job.args_version for job in jobs],
        [job.options.trace for job in jobs],
        [job.options.marks for job in jobs],
    )


def unique_rules(unique: Unique | None) -> tuple[object, ...]:
    """The parameters of rowlock.enqueue for a key. Python raises errors: an error in SQL would end the transaction."""
    if unique is None:
        return ("finish", None, False, "return")
    on_duplicate = "replace" if unique.on_duplicate == "replace" else "return"
    return (unique.until, unique.period, unique.across_tasks, on_duplicate)
