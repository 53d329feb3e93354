"""The queue inside an aiohttp application: `cleanup_context`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from rowlock.integrations.beside import WorkerOptions, beside, check_queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp import web

    from rowlock.app import Rowlock

__all__ = ["cleanup_context"]


def cleanup_context(
    queue: Rowlock, *, worker: bool = True, **options: Unpack[WorkerOptions]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """A cleanup context that runs a worker inside the web application, and closes the queue at its end.

    `options` are those of `app.worker(...)`. With `worker=False` no worker runs here: `rowlock worker` runs the jobs.
    Append it after the contexts that the jobs use: it ends before them, once the last request is answered. Then the
    worker stops claiming, and running jobs get the grace period. Signals stay the server's. Raises `InvalidOption` if
    `queue` is not a `Rowlock`; an error that prevents the worker from starting prevents the application's start, too.

    >>> site.cleanup_ctx.append(cleanup_context(queue, concurrency=20))
    """
    check_queue(queue, caller="cleanup_context()")

    async def run(_app: web.Application) -> AsyncIterator[None]:
        async with beside(queue, options if worker else None):
            yield

    return run
