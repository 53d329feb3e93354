"""One attempt: the claimed job, the lease that it runs under, and its state."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from rowlock import steady
from rowlock.worker.timeouts import NotInTime

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from asyncpg import Record

    from rowlock.worker.vitals.lease import Lease


class Transacting(Protocol):
    """An attempt's runtime, as far as its end needs it."""

    is_recorded: bool
    """Whether `job.transaction()` has committed the job's success."""

    async def end(self, *, is_lost: bool = False) -> None:
        """Write the handler's last report, unless its lease is lost, and its log lines."""
        ...


class Attempt:
    """One run of one job in this worker, under the lease that claimed it.

    `has_begun` is true once the handler is called. An attempt that waits for a thread, a process or its batch, or runs
    through middleware, has not begun: it can be released without being counted.

    `stop` is the reason why the worker cancelled the attempt, if it did: `shutdown` or `lease`; `cancel` for an
    operator, whose reason is `reason`; or `wait`, because the attempt may not begin here any more. `result` is JSON
    text once the attempt succeeded. `began`, and `asked_at`, when its claim was sent, are by the clock of leases: no
    time in the row is older. `waits` is true from when a thread, a process or a batch was asked to run the call.
    An operator's cancel calls `on_cancel`, if set, instead of cancelling the coroutine: cancelling that would not stop
    the thread or process that it waits for.
    """

    __slots__ = (
        *("asked_at", "began", "claimed", "claimed_at", "has_begun", "lease", "on_cancel", "reason", "result"),
        *("running", "runtime", "stop", "waits"),
    )

    def __init__(self, claimed: Record, claimed_at: float, lease: Lease, asked_at: float | None = None) -> None:
        self.claimed = claimed
        self.lease = lease
        self.claimed_at = self.began = claimed_at
        self.asked_at = claimed_at if asked_at is None else asked_at
        self.has_begun = self.waits = False
        self.result: str | None = None
        self.running: asyncio.Task[None] | None = None
        self.runtime: Transacting | None = None
        self.stop: str | None = None
        self.reason = ""
        self.on_cancel: Callable[[], object] | None = None

    def begin(self, limit: timedelta | None) -> timedelta | None:
        """Begin: the handler is called next. Return its limit: `limit`, or the time until the deadline if less.

        May be called in a thread. Raises `NotInTime` if the attempt must not begin any more: it was stopped, its lease
        is over, or its job has expired or passed its deadline.
        """
        self.began = steady.seconds()
        self.has_begun = True  # first: a concurrent stop either sees this, or is seen below
        try:
            if self.stop is None and self.began < self.lease.held_until:  # seam: lease after waiting
                return limit if self.claimed["times"] is None else limited(self, limit)
        except NotInTime:
            pass
        self.has_begun = False
        self.stop = self.stop or "wait"
        raise NotInTime

    def stop_waiting(self) -> None:
        """Release the attempt unless it has begun: at once if it only waits, after its middleware otherwise."""
        if self.stop is not None:
            return
        self.stop = "wait"
        if self.has_begun:  # checked last: the attempt may begin in a thread meanwhile
            self.stop = None
        elif self.waits and self.running is not None:
            self.running.cancel()

    @property
    def is_refused(self) -> bool:
        """Whether the attempt was stopped before it began: it will not begin any more."""
        return self.stop is not None and not self.has_begun

    @property
    def is_recorded(self) -> bool:
        """Whether `job.transaction()` has committed the job's success already."""
        return self.runtime is not None and self.runtime.is_recorded


class Observer(Protocol):
    """Receives the error of each attempt that raised one, and then the end of each attempt."""

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt raised this error, or was stopped by it."""
        ...

    def ended(self, attempt: Attempt) -> None:
        """The attempt has ended. Its outcome will be recorded soon."""
        ...


def limited(attempt: Attempt, limit: timedelta | None) -> timedelta | None:
    """The attempt's limit, or the time until the job's deadline if that is less.

    Raises `NotInTime` if no attempt may start any more: the job has expired or passed its deadline while it waited.
    """
    ends_at, _, deadline, claimed_at = attempt.claimed["times"]
    now = claimed_at + timedelta(seconds=attempt.began - attempt.asked_at)  # never too early, perhaps a little late
    if ends_at <= now:  # seam: expired
        raise NotInTime
    if deadline is None:  # seam: deadline
        return limit
    left: timedelta = deadline - now
    return left if limit is None else min(limit, left)


__all__ = ["Attempt", "Observer", "limited"]
