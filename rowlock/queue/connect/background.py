"""An event loop in a thread of its own, which runs coroutines for synchronous programs."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from rowlock.errors import ConfigurationError, InsideEventLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


class Background:
    """A loop that starts at the first use, and again in a forked process. Many threads may use it at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop, and wait for its result.

        Raises `InsideEventLoop`, and `ConfigurationError` where threads are greenlets.
        """
        if (patcher := _patcher_of_threads()) is not None:
            coroutine.close()
            raise ConfigurationError(
                "Synchronous calls without a connection need a thread of the operating system for their event loop, "
                f"and {patcher} has made threads greenlets. Give `using(connection=...)` a synchronous connection, "
                "or leave threads unpatched (`monkey.patch_all(thread=False)`, `gunicorn -k gthread`)."
            )
        if is_in_event_loop():
            coroutine.close()
            raise InsideEventLoop(
                "This thread runs an event loop, which the call would block. Await the asynchronous method instead."
            )
        future = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a Ctrl-C interrupts the waiting thread alone
            raise

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Run the last coroutine, if there is a loop, and end it."""
        if self._process != os.getpid() or self._loop is None or self._thread is None:
            last.close()  # nothing of the parent process is closed
            return
        with self._lock:
            loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        asyncio.run_coroutine_threadsafe(last, loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._process != os.getpid():  # the thread stayed in the parent process, perhaps with the lock
            self.__init__()  # type: ignore[misc]  # all is new
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="rowlock-background", daemon=True)
                self._thread.start()
            return self._loop


def _patcher_of_threads() -> str | None:
    """The library that has replaced threads by greenlets, if any: they all share one thread, and its event loop."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    if eventlet is not None and eventlet.is_monkey_patched("thread"):
        return "eventlet"
    return None


def is_in_event_loop() -> bool:
    """Whether this thread runs an event loop now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
