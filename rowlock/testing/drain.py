"""Run enqueued jobs in the test: one after the other in claim order, with the worker's own code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock.queue.jobs import checks
from rowlock.queue.jobs.lifecycle import Cancel, Retry, Snooze
from rowlock.testing.bench import Bench, Ended
from rowlock.testing.clock import move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.app import Rowlock
    from rowlock.queue.jobs.job import Job

DECIDED: Final = (Cancel, Retry, Snooze)
"""Exceptions by which a handler decides an outcome: not failures of the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt that `drain` has made: the `job` afterwards, and the attempt's `outcome`.

    The outcome is `succeeded`, or as in the table `attempt`: error, timeout, failed, retried, snoozed, cancelled or
    released. `error` is the handler's exception.
    """

    job: Job
    outcome: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """The `attempts` that `drain` has made, in order."""

    attempts: list[Attempted] = field(default_factory=list)

    @property
    def outcomes(self) -> dict[str, int]:
        """The number of attempts by outcome."""
        return dict(Counter(attempted.outcome for attempted in self.attempts))

    @property
    def failures(self) -> list[Attempted]:
        """The attempts that ended in an error or with `Fail`."""
        return [attempted for attempted in self.attempts if is_failure(attempted.error)]

    def __len__(self) -> int:
        return len(self.attempts)


async def drain(
    app: Rowlock,
    *,
    queues: Sequence[str] | None = None,
    with_scheduled: bool = False,
    raise_errors: bool = True,
    concurrency: int = 1,
    limit: int = 1000,
) -> Drained:
    """Run all due jobs, and the jobs that they enqueue, until none is due; report the attempts.

    One job runs after the other, in the order in which a worker claims them; a higher `concurrency` runs that many at
    once. `queues` limits it to some queues. Jobs that are delayed or wait for a retry stay queued: see `move_time`; or
    use `with_scheduled=True`, which moves time to the next job until none waits. Schedules do not fire:
    `fire_schedules`. The application's lifespans open for this call, unless they are open already.

    It raises the first error of a handler, once it is recorded; what is still due stays queued. With
    `raise_errors=False` the report contains the errors. After `limit` attempts it raises an `AssertionError`: a job
    that enqueues itself would run for ever. Raises `InvalidOption`.

    >>> await sign_up("ada@example.com")
    >>> done = await drain(app)
    >>> assert done.outcomes == {"succeeded": 1}
    """
    checks.concurrency(limit, "limit")
    checks.flag("with_scheduled", with_scheduled)
    checks.flag("raise_errors", raise_errors)
    drained = Drained()
    async with Bench(app, queues=queues, concurrency=concurrency) as bench:
        while ended := await _next(bench, with_scheduled=with_scheduled):
            for one in ended:
                job, outcome = await bench.read(one.job_id), await bench.outcome(one)
                drained.attempts.append(Attempted(job=job, outcome=outcome, error=one.error))
                if raise_errors:
                    raise_failure(one.error, job)
            if len(drained) > limit:
                raise AssertionError(
                    f"drain() stopped after {len(drained)} attempts, and more jobs may be due. Look for a job that "
                    "enqueues itself; or raise limit= if so many attempts are meant."
                )
    return drained


async def _next(bench: Bench, *, with_scheduled: bool) -> list[Ended]:
    """Make the next attempts, and wait for their end; empty if nothing is due any more, now or later."""
    while not (ended := await bench.turn()) and with_scheduled:
        wait = await bench.until_next()
        if wait is None:
            break
        await move(bench, max(wait, timedelta(0)) + timedelta(milliseconds=1))
    return ended


def is_failure(error: BaseException | None) -> bool:
    """Whether a handler ended in an error, rather than deciding its job's outcome."""
    return error is not None and not isinstance(error, DECIDED)


def raise_failure(error: BaseException | None, job: Job) -> None:
    """Raise the error of an attempt, if it is a failure, with a note that names the job."""
    if error is not None and is_failure(error):
        error.add_note(f"Raised by attempt {job.attempt} of job {job.id}: task {job.task!r}, args {job.args}.")
        raise error


__all__ = ["Attempted", "Drained", "drain"]
