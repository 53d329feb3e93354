"""The worker beside a web application, in its process and on its event loop: for as long as the application runs."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypedDict
from weakref import WeakKeyDictionary

from rowlock.app import Rowlock
from rowlock.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence


_ENDING: WeakKeyDictionary[Rowlock, list[Callable[[], Awaitable[None]]]] = WeakKeyDictionary()


class WorkerOptions(TypedDict, total=False):
    """The options of `app.worker(...)`."""

    queues: Sequence[str] | Mapping[str, int | None] | None
    concurrency: int
    threads: int | None
    task_processes: int | None


@asynccontextmanager
async def beside(queue: Rowlock, options: WorkerOptions | None) -> AsyncIterator[None]:
    """Run a worker with these options while the block lasts, or none if they are None; close the queue at the end.

    The end of the block is the worker's stop: it claims no more, and running jobs have the grace period. No signal
    handlers: those of the web server stay in place. Raises what keeps the worker from starting.
    """
    async with queue:
        try:
            if options is None:
                yield
            else:
                async with queue.worker(**options):
                    yield
        finally:
            for close in _ENDING.pop(queue, ()):
                await close()


def ends_with(queue: Rowlock, close: Callable[[], Awaitable[None]]) -> None:
    """Have this called when the application ends in which the queue is."""
    _ENDING.setdefault(queue, []).append(close)


def check_queue(queue: object, *, caller: str) -> None:
    """Refuse what is no Rowlock: the web application, most often."""
    if not isinstance(queue, Rowlock):
        kind = queue.__name__ if isinstance(queue, type) else type(queue).__name__
        raise InvalidOption(
            f"{caller} was given {kind}, which is no Rowlock: give it the application that has the tasks, "
            f"as in queue = Rowlock() and {caller.partition('(')[0]}(queue)."
        )
