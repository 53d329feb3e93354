"""One attempt: the claimed job, the lease that it runs under, and how far it is."""

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
    """What a handler does with its job while it runs."""

    is_recorded: bool
    """Whether `job.transaction()` has committed the job's success."""

    async def end(self, *, is_lost: bool = False) -> None:
        """Settle what is still open; roll back what belongs to a lost lease."""
        ...


class Attempt:
    """One run of one job in this worker, under the lease that claimed it.

    It `has_begun` once its handler is called. While it waits for a thread, a process or its batch, or runs through
    middleware, it has not: it is given back without counting then.

    `stop` says why the worker cancelled it, if it did: `shutdown` or `lease`; `cancel`, because an operator wants
    it, for this `reason`; or `wait`, because it may not begin here any more. Its `result`, once it succeeded, is JSON
    text. `began` and `asked_at`, when its claim was sent, are by the clock of leases: no time in the row is older.
    It `waits` from when its call was asked for, to a thread, a process or a batch.
    `on_cancel` is what an operator's cancel calls where cancelling the coroutine that waits would not stop what it
    waits for: a thread, a process.
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
        """Begin: the handler is called next. Returns its limit: this one, or what is left until the deadline.

        May be called in a thread. Raises `NotInTime` if the attempt must not begin any more: it was stopped, its lease
        is over, or its job's time is.
        """
        self.began = steady.seconds()
        self.has_begun = True  # first: who stops it sees this, or is seen here
        try:
            if self.stop is None and self.began < self.lease.held_until:  # seam: lease after waiting
                return limit if self.claimed["times"] is None else limited(self, limit)
        except NotInTime:
            pass
        self.has_begun = False
        self.stop = self.stop or "wait"
        raise NotInTime

    def stop_waiting(self) -> None:
        """Have it given back, unless it has begun: at once if it only waits, after its middleware otherwise."""
        if self.stop is not None:
            return
        self.stop = "wait"
        if self.has_begun:  # asked last: it may begin in a thread just now
            self.stop = None
        elif self.waits and self.running is not None:
            self.running.cancel()

    @property
    def is_refused(self) -> bool:
        """Whether it was stopped before it began: it will not begin any more."""
        return self.stop is not None and not self.has_begun

    @property
    def is_recorded(self) -> bool:
        """Whether `job.transaction()` has committed the job's success already."""
        return self.runtime is not None and self.runtime.is_recorded


class Observer(Protocol):
    """Hears of each attempt: of the error that it raised, if it did, and then of its end."""

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """The attempt has raised this error, or was stopped by it."""
        ...

    def ended(self, attempt: Attempt) -> None:
        """The attempt is over. Its outcome is recorded soon."""
        ...


def limited(attempt: Attempt, limit: timedelta | None) -> timedelta | None:
    """The attempt's limit, or what is left until the job's deadline if that is less.

    Raises `NotInTime` if no attempt may start any more: the job has waited here too long.
    """
    ends_at, _, deadline, claimed_at = attempt.claimed["times"]
    now = claimed_at + timedelta(seconds=attempt.began - attempt.asked_at)  # or a little later, never earlier
    if ends_at <= now:  # seam: expired
        raise NotInTime
    if deadline is None:  # seam: deadline
        return limit
    left: timedelta = deadline - now
    return left if limit is None else min(limit, left)


__all__ = ["Attempt", "Observer", "limited"]
