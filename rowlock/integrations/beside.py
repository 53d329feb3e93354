"""A worker inside a web application: in its process and on its event loop, as long as the application runs."""

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
    """Run a worker with these options for the duration of the block; none if they are None. Close the queue at the end.

    The end of the block stops the worker: it claims no more jobs, and running jobs get the grace period. It installs no
    signal handlers: the web server's stay in place. Raises the error that prevents the worker from starting.
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
    """Register a function to call when the queue's application ends."""
    _ENDING.setdefault(queue, []).append(close)


def check_queue(queue: object, *, caller: str) -> None:
    """Refuse any object but a `Rowlock`: most often the web application."""
    if not isinstance(queue, Rowlock):
        kind = queue.__name__ if isinstance(queue, type) else type(queue).__name__
        raise InvalidOption(
            f"{caller} must be given a Rowlock(); got {kind}. Pass the application that has the tasks, "
            f"as in queue = Rowlock() and {caller.partition('(')[0]}(queue)."
        )
