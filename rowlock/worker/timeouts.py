"""Time limits: of an attempt, and of a close; and the errors of an attempt that must not begin or go on."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from rowlock.queue.jobs.lifecycle import AttemptTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from datetime import timedelta
    from types import TracebackType

R = TypeVar("R")

LOOK_EVERY: Final = 0.1
CANCEL_EVERY: Final = 1.0


class NotInTime(asyncio.CancelledError):
    """An attempt must not begin: its job has expired, its deadline has passed, its lease is over, or it was stopped.

    Middleware sees it as a cancellation, like every other stop.
    """


def timed_out(limit: timedelta) -> AttemptTimeout:
    """The error of an attempt that took longer than its limit."""
    return AttemptTimeout(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")


async def within(limit: timedelta, call: Awaitable[R], *, spent: float = 0.0) -> R:
    """Await the call. Cancel it and raise `AttemptTimeout` when the limit, less the seconds `spent` already, is over.

    A call that blocks the event loop cannot be cancelled: it counts as timed out when it returns.
    """
    deadline = asyncio.timeout(limit.total_seconds() - spent)  # seam: timeout timer
    try:
        async with deadline:
            value = await call
    except TimeoutError as error:
        if not deadline.expired():
            raise  # the handler's own
        raise timed_out(limit) from error
    ends_at = deadline.when()
    if ends_at is not None and asyncio.get_running_loop().time() > ends_at:
        raise timed_out(limit)
    return value


async def to_the_end(coroutine: Coroutine[Any, Any, None]) -> None:
    """Await the coroutine to its end, however often the caller is cancelled meanwhile. Raise the cancel afterwards."""
    task = asyncio.create_task(coroutine)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    task.result()


class Patience:
    """Cancel an `async with` block when its `seconds` are over, and again each second until it ends.

    The block runs in the caller's task: a resource must be closed in the task that opened it. `seconds` is called again
    and again, and may come to return less. The cancels end with the block; `is_over` is true if there were any.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._cancels = 0

    @property
    def is_over(self) -> bool:
        """Whether the block has been cancelled."""
        return self._cancels > 0

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  # a coroutine runs in one
        self._task, self._loop = task, asyncio.get_running_loop()
        self._cancelled_before = task.cancelling()
        self._began = self._loop.time()
        self._look()
        return self

    def _look(self) -> None:
        left = self._began + self._seconds() - self._loop.time()
        if left <= 0:
            self._cancels += 1
            self._task.cancel()
        self._timer = self._loop.call_later(CANCEL_EVERY if left <= 0 else min(left, LOOK_EVERY), self._look)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._timer.cancel()
        if not self._cancels:
            return False
        if kind is None:
            with suppress(asyncio.CancelledError):  # a cancel that came after the block's last await
                await asyncio.sleep(0)
        for _ in range(self._cancels):
            self._task.uncancel()
        if self._task.cancelling() <= self._cancelled_before:
            return isinstance(error, asyncio.CancelledError)
        if kind is None:
            raise asyncio.CancelledError  # another caller's cancel came, too
        return False


__all__ = ["NotInTime", "Patience", "timed_out", "to_the_end", "within"]
