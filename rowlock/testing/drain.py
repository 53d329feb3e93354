"""Do what is enqueued, here and now: one job after the other in the order of the claims, with the worker's own code."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock.errors import InvalidOption
from rowlock.queue.jobs.lifecycle import Cancel, Retry, Snooze
from rowlock.testing.bench import Bench, Ended
from rowlock.testing.clock import move

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.app import Rowlock
    from rowlock.queue.jobs.job import Job

DECIDED: Final = (Cancel, Retry, Snooze)
"""What a handler raises that is no failure of the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """One attempt that `drain` has made: the `job` as it was afterwards, and the attempt's `outcome`.

    The outcome is `succeeded`, or what the table `attempt` says: error, timeout, failed, retried, snoozed, cancelled or
    released. `error` is what the handler raised.
    """

    job: Job
    outcome: str
    error: BaseException | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """What `drain` has done: its `attempts`, in their order."""

    attempts: list[Attempted] = field(default_factory=list)

    @property
    def outcomes(self) -> dict[str, int]:
        """How many attempts had which outcome."""
        return dict(Counter(attempted.outcome for attempted in self.attempts))

    @property
    def failures(self) -> list[Attempted]:
        """The attempts that ended in an error, or with `Fail`."""
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
    """Do all that is due, and what it enqueues meanwhile, until nothing is due any more; say what was done.

    One job after the other, in the order in which a worker claims them; with a higher `concurrency`, so many at once.
    Of all queues, or of these. What is delayed, or waits for a retry, stays queued: see `move_time`; or
    `with_scheduled=True`, which moves time to the next job until none waits. Schedules do not fire: `fire_schedules`.
    The application's lifespans open for this call, unless they are open already.

    The first error of a handler is raised, once it is recorded, and what is still due stays queued; with
    `raise_errors=False` they are in the report. After `limit` attempts it gives up with an `AssertionError`: a job that
    enqueues itself would go on for ever. Raises `InvalidOption`.

    >>> await sign_up("ada@example.com")
    >>> done = await drain(app)
    >>> assert done.outcomes == {"succeeded": 1}
    """
    if limit < 1:
        raise InvalidOption(f"limit {limit!r} makes no sense: use at least 1.")
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
                    f"drain() has made {len(drained)} attempts, and more may be due: does a job enqueue itself? "
                    "Give a higher limit= if so many are meant."
                )
    return drained


async def _next(bench: Bench, *, with_scheduled: bool) -> list[Ended]:
    """The next attempts, once they are over; none if nothing is due any more, or to come."""
    while not (ended := await bench.turn()) and with_scheduled:
        wait = await bench.until_next()
        if wait is None:
            break
        await move(bench, max(wait, timedelta(0)) + timedelta(milliseconds=1))
    return ended


def is_failure(error: BaseException | None) -> bool:
    """Whether a handler ended in an error, and did not just decide what becomes of its job."""
    return error is not None and not isinstance(error, DECIDED)


def raise_failure(error: BaseException | None, job: Job) -> None:
    """Raise the error of an attempt, if it is a failure, with a note that says of which job."""
    if error is not None and is_failure(error):
        error.add_note(f"Raised by attempt {job.attempt} of job {job.id}: task {job.task!r}, args {job.args}.")
        raise error


__all__ = ["Attempted", "Drained", "drain"]
