"""The watchdog: a thread that detects a blocked event loop, and logs the job that blocks it."""

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
"""The longest pause between two probes of the loop, in seconds; shorter if less than a second counts as blocked."""
FRAMES: Final = 30


class Watchdog:
    """Probe the loop again and again. Log a delay of more than `after` seconds, once.

    `delay` is the loop's last delay in seconds, and grows while the loop is blocked; `delay_max` is the longest,
    `delays` the histogram of all.
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
        """The loop's last delay in seconds, or the time since an unanswered probe if that is longer."""
        asked_at = self._asked_at
        return self._delay if asked_at is None else max(self._delay, time.monotonic() - asked_at)

    def take_longest(self) -> float:
        """The longest delay since the last call, in seconds."""
        longest, self._longest = max(self._longest, self.delay), 0.0
        return longest

    def start(self) -> None:
        """Start to watch the running loop."""
        self._thread.start()

    def stop(self) -> None:
        """Stop, without waiting for the thread: it is a daemon and ends within moments."""
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
        """Wait until the next probe is due; False once stopped. A late wake-up means that the process was stalled."""
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
        """The fields of the job whose handler is on the loop, if any, by asyncio's current task or its context."""
        task = asyncio.current_task(self._loop)
        if task is None:
            return {}
        claimed = next((attempt.claimed for attempt in self._running() if attempt.running is task), None)
        if claimed is None and sys.version_info >= (3, 12):
            claimed = task.get_context().get(logs.JOB)  # a task that the handler made
        if claimed is None:
            return {}
        return {"job_id": str(claimed["id"]), **{name: claimed[name] for name in ("queue", "task", "attempt")}}


__all__ = ["Watchdog"]
