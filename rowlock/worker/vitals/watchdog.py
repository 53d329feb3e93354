"""The watchdog: a thread that notices when the event loop does not turn, and tells whose fault it is."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, Final, Protocol

from rowlock import logs
from rowlock.worker.vitals.counts import Delays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from asyncpg import Record


class Running(Protocol):
    """An attempt whose handler runs."""

    @property
    def claimed(self) -> Record | Mapping[str, Any]:
        """The job."""
        ...

    @property
    def running(self) -> asyncio.Task[None] | None:
        """Its task on the loop."""
        ...


log = logs.get_logger("rowlock.worker")

LOOK_MOST: Final = 0.25
"""How often, in seconds, the loop is asked to answer; more often if less than a second counts as blocked."""
FRAMES: Final = 30


class Watchdog:
    """Asks the loop again and again to answer. What takes longer than `after` seconds is logged, once.

    `delay` is how long the loop took to answer last, in seconds, and grows while it does not; `delay_max` the longest,
    `delays` all of them.
    """

    def __init__(self, after: float, running: Callable[[], Iterable[Running]]) -> None:
        self._after = after
        self._every = min(LOOK_MOST, after / 4)
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._turned = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="rowlock-watchdog", daemon=True)
        self._delay = self._longest = self.delay_max = 0.0
        self._asked_at: float | None = None
        self.delays = Delays()

    @property
    def delay(self) -> float:
        """The loop's delay in seconds: how long it took to answer, or has not answered until now."""
        asked_at = self._asked_at
        return self._delay if asked_at is None else max(self._delay, time.monotonic() - asked_at)

    def take_longest(self) -> float:
        """The longest delay since this was asked last, in seconds."""
        longest, self._longest = max(self._longest, self.delay), 0.0
        return longest

    def start(self) -> None:
        """Begin to watch the loop that runs here."""
        self._thread.start()

    def stop(self) -> None:
        """End. It does not wait for the thread, which is a daemon and ends within moments."""
        self._stopped.set()
        self._turned.set()

    def _watch(self) -> None:
        while self._sleep():
            self._turned.clear()
            self._asked_at = time.monotonic()
            try:
                self._loop.call_soon_threadsafe(self._turned.set)
            except RuntimeError:  # the loop is closed
                return
            is_blocked = not self._turned.wait(self._after)
            if is_blocked and not self._stopped.is_set():
                self._report(time.monotonic() - self._asked_at)
                self._turned.wait()
            took = time.monotonic() - self._asked_at
            self._delay, self._asked_at = took, None
            self._count(took)
            if is_blocked and not self._stopped.is_set():
                log.warning("event_loop_unblocked", seconds=round(took, 3))

    def _sleep(self) -> bool:
        """Wait until it is time to look again; False once stopped. Who oversleeps could not run: nor could the loop."""
        until = time.monotonic() + self._every
        is_stopped = self._stopped.wait(self._every)
        late = time.monotonic() - until
        if late > self._after and not is_stopped:
            self._count(late)
            log.warning("process_stalled", seconds=round(late, 3))
        return not is_stopped

    def _count(self, delay: float) -> None:
        self._longest, self.delay_max = max(self._longest, delay), max(self.delay_max, delay)
        self.delays.note(delay)

    def _report(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001  # the documented way
        stack = "".join(traceback.format_stack(frame)[-FRAMES:]) if frame is not None else ""
        log.warning("event_loop_blocked", seconds=round(seconds, 3), stack=stack, **self._culprit())

    def _culprit(self) -> dict[str, Any]:
        """The job whose handler is on the loop, if it is one's: asyncio's current task knows its context."""
        task = asyncio.current_task(self._loop)
        if task is None:
            return {}
        claimed = next((attempt.claimed for attempt in self._running() if attempt.running is task), None)
        if claimed is None and sys.version_info >= (3, 12):
            claimed = task.get_context().get(logs.JOB)  # a task that the handler has made
        if claimed is None:
            return {}
        return {"job_id": str(claimed["id"]), **{name: claimed[name] for name in ("queue", "task", "attempt")}}


__all__ = ["Watchdog"]
