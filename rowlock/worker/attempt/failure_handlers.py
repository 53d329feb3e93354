"""Call the application's failure handlers for jobs that have failed. A handler cannot change the outcome."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.queue.jobs.callables import is_async
from rowlock.worker.executors.threads import Threads

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rowlock.queue.enqueue.task import FailureHandler
    from rowlock.queue.jobs.job import Job

log = logs.get_logger("rowlock.worker")

SECONDS: Final = 30.0
"""How long one handler may take, in seconds. A handler that takes longer is abandoned, and the outcome is recorded."""
THREADS: Final = 4
"""Threads for handlers that are plain functions. Their own, since the threads of the tasks may all be busy."""


class Failures:
    """Call failure handlers one after the other, each within `SECONDS`."""

    def __init__(self) -> None:
        self._threads = Threads(THREADS, name="rowlock-failure")

    async def tell(
        self, handlers: Iterable[FailureHandler], job: Job, error: BaseException, *, is_sensitive: bool
    ) -> None:
        """Call each handler with the failed job and the error. Log what they raise; for a sensitive task only the type.

        Raises nothing but a cancel of the call: the worker stops, or has lost its lease.
        """
        for handler in handlers:
            try:
                async with asyncio.timeout(SECONDS):
                    await self._call(handler, job, error)
            except asyncio.CancelledError as failure:
                if (task := asyncio.current_task()) is not None and task.cancelling():
                    raise
                _log(handler, failure, is_sensitive=is_sensitive)
            except BaseException as failure:  # noqa: BLE001  # the application's handler may raise anything
                _log(handler, failure, is_sensitive=is_sensitive)

    async def _call(self, handler: FailureHandler, job: Job, error: BaseException) -> None:
        if is_async(handler):
            returned = handler(job, error)
        else:
            returned = await asyncio.wrap_future(self._threads.submit(handler, job, error))
        if inspect.isawaitable(returned):  # a plain wrapper around an async function returns an awaitable, too
            await returned

    @property
    def has_busy_threads(self) -> bool:
        """Whether a plain handler runs in a thread."""
        return self._threads.are_busy

    def close(self) -> None:
        """End the threads, except those whose handler still runs."""
        self._threads.close()


def _log(handler: FailureHandler, failure: BaseException, *, is_sensitive: bool) -> None:
    name = getattr(handler, "__qualname__", repr(handler))
    shown = None if is_sensitive else failure
    log.error("failure_handler_failed", handler=name, error=type(failure).__name__, exc_info=shown)


__all__ = ["Failures"]
