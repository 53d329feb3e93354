"""The application's middleware around one attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rowlock.queue.enqueue.task import Middleware
    from rowlock.queue.jobs.job import Job


async def call_through(middleware: Sequence[Middleware], job: Job, call: Callable[[], Awaitable[Any]]) -> object:
    """Call the first middleware. Its `call_next` calls the second, and so on; the last one's `call_next` is `call`."""

    def step(place: int) -> Awaitable[Any]:
        if place == len(middleware):
            return call()
        return middleware[place](job, lambda: step(place + 1))

    return await step(0)


__all__ = ["call_through"]
