"""The timeout of one attempt: its limit, and what is raised when the time is up."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from rowlock.queue.lifecycle import AttemptTimeout

if TYPE_CHECKING:
    from collections.abc import Awaitable
    from datetime import timedelta

R = TypeVar("R")


def timed_out(limit: timedelta) -> AttemptTimeout:
    """The error of an attempt that took longer than its limit."""
    return AttemptTimeout(f"the attempt took longer than its timeout of {limit.total_seconds():g} s")


async def within(limit: timedelta, call: Awaitable[R]) -> R:
    """Await the call; cancel it and raise `AttemptTimeout` when the time is up."""
    deadline = asyncio.timeout(limit.total_seconds())
    try:
        async with deadline:
            return await call
    except TimeoutError as error:
        if not deadline.expired():
            raise  # the handler's own
        raise timed_out(limit) from error


__all__ = ["timed_out", "within"]
