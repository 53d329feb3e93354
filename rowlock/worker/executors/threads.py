"""Threads for plain functions. They are not asyncio's, which must stay free to resolve names."""

from __future__ import annotations

import contextvars
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from rowlock.worker.executors import forks

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


class Threads:
    """A pool of at most `most` threads, which start when they are needed."""

    def __init__(self, most: int, *, name: str) -> None:
        self._most, self._name = most, name
        self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix=name)
        self._running: set[Future[Any]] = set()

    def submit(self, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        """Call the function in a thread, in a copy of the present context, as soon as a thread is free.

        A thread cannot be stopped: cancelling the future has an effect only before the function begins.
        """
        future = self._pool.submit(contextvars.copy_context().run, _plainly, function, args, kwargs)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def grow(self, most: int) -> None:
        """Raise the number of threads, never lower it: new calls use a larger pool, and the present pool runs dry."""
        if most > self._most:
            self._most = most
            self._pool.shutdown(wait=False)
            self._pool = ThreadPoolExecutor(max_workers=most, thread_name_prefix=self._name)

    @property
    def are_busy(self) -> bool:
        """Whether a function runs in a thread, or waits for one. May be read after `close`, and in any thread."""
        return bool(self._running)

    def close(self) -> None:
        """End the threads, except those whose function still runs: it cannot be stopped from outside."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _plainly(function: Callable[..., R], args: tuple[object, ...], kwargs: dict[str, object]) -> R:
    """Call the function. Convert StopIteration: a future cannot raise it, and its waiter would wait for ever.

    End a process that the function forked, if it returns: else it would wait for ever for the pool's next call.
    """
    before = forks.generation
    try:
        return function(*args, **kwargs)
    except StopIteration as error:
        raise RuntimeError("the task raised StopIteration") from error
    finally:
        if forks.generation != before:  # cheaper than `ending_here`, for each call
            forks.end_fork(sys.exception())


__all__ = ["Threads"]
