"""The time of one attempt: its limit, what is raised when it must not go on or begin; and what no cancel cuts short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from rowlock.queue.lifecycle import AttemptTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine
    from datetime import timedelta

R = TypeVar("R")


class NotInTime(asyncio.CancelledError):
    """An attempt must not begin: its job has expired, its deadline has passed, its lease is over, or it was stopped.

    To middleware it is what every stop is.
    """


def timed_out(limit: timedelta) -> AttemptTimeout:
    """The error of an attempt that took longer than its limit."""
    return AttemptTimeout(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")


async def within(limit: timedelta, call: Awaitable[R], *, spent: float = 0.0) -> R:
    """Await the call; cancel it and raise `AttemptTimeout` when the time is up, of which these seconds are spent.

    A call that has blocked the event loop could not be cancelled: it counts as timed out when it returns.
    """
    deadline = asyncio.timeout(limit.total_seconds() - spent)
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
    """Await it to its end, however often the caller is cancelled meanwhile: that is raised afterwards."""
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


__all__ = ["NotInTime", "timed_out", "to_the_end", "within"]
