"""Idle waiting: poll while jobs keep arriving, then sleep until NOTIFY.

A commit that sends a NOTIFY takes a lock of the whole server, so enqueues notify only if a worker is marked as idle.
The mark follows the rate of arrivals, not each job: it is set after a while without jobs, and removed when many jobs
arrive. A worker polls in both cases: a lost notification costs one poll interval. A marked worker tests whether
notifications reach it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from rowlock.queue.connect.listening import Ear
from rowlock.queue.connect.statements import WAKEUP_CHANNEL

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.settings import Settings

PAUSE_FIRST: Final = 0.002
PAUSE_BUSY_MOST: Final = 0.02
QUIET_SECONDS: Final = 0.1
"""A worker that finds no job for this long marks itself as idle."""
BUSY_JOBS_PER_SECOND: Final = 200
"""At more arrivals than this the worker removes the mark: polling every few milliseconds finds as many, for free."""


class Doze:
    """The wait of one worker between two claims."""

    def __init__(self, settings: Settings, connection: ControlConnection, claims: Claims, worker: UUID) -> None:
        self._poll = settings.poll_interval.total_seconds()
        self._may_listen = settings.listen
        self._connection = connection
        self._claims = claims
        self._worker = worker
        self._ear = Ear(connection, settings.schema, WAKEUP_CHANNEL, worker)
        self._awake = asyncio.Event()
        self._is_marked = False
        self._marked: list[str] = []
        self._pause = PAUSE_FIRST
        self._dry_since = time.monotonic()
        self._window_began, self._window_jobs = time.monotonic(), 0

    def wake(self, _queue: str = "") -> None:
        """End the wait because there may be work; or end the next wait, if the worker does not wait now."""
        self._awake.set()

    def heard(self) -> None:
        """Note that a notification arrived, which proves that the connection listens."""
        self._ear.heard()

    def lost_mark(self) -> None:
        """Forget the mark: the connection is a new one, and another server may not have the mark."""
        self._is_marked = False
        self._ear.begin()
        self.wake()

    def before_claim(self) -> None:
        """Forget earlier wake-ups: the coming claim sees their work. A later wake-up may mean work that it misses."""
        self._awake.clear()

    async def found(self, jobs: int) -> None:
        """Note how many jobs the last claim found. Remove the mark if many arrive."""
        now = time.monotonic()
        if jobs:
            self._dry_since, self._pause = now, PAUSE_FIRST
            self._window_jobs += jobs
        if now - self._window_began < QUIET_SECONDS:
            return
        pace = self._window_jobs / (now - self._window_began)
        self._window_began, self._window_jobs = now, 0
        if pace > BUSY_JOBS_PER_SECOND:
            await self.busy()

    async def busy(self) -> None:
        """Remove the mark, because this worker has enough work for now."""
        if self._is_marked:
            await self._connection.fetch("mark_busy", self._worker)
            self._is_marked = False

    async def wait(self) -> None:
        """Wait until there may be work again. The mark names no paused queues, so enqueues to these do not notify."""
        if self._is_marked and self._marked != sorted(self._claims.open_queues):
            await self.busy()
        if not self._is_marked and self._may_listen and time.monotonic() - self._dry_since >= QUIET_SECONDS:
            self._marked = sorted(self._claims.open_queues)
            await self._connection.fetch("mark_idle", self._worker, self._marked)
            self._is_marked = True
            self._ear.begin()
            return  # to claim once more: jobs enqueued before the mark did not notify
        if self._is_marked and not await self._ear.test():
            return
        most = self._poll if self._is_marked or not self._may_listen else PAUSE_BUSY_MOST
        pause = self._pause = min(self._pause * 2, most)
        if self._is_marked or not self._may_listen:
            due = await self._claims.until_next()  # seam: next due
            if due is not None:
                pause = min(pause, max(due.total_seconds(), 0.0))
        if self._is_marked:
            pause = min(pause, self._ear.due_in())  # seam: listening
        try:
            async with asyncio.timeout(pause):
                await self._awake.wait()
        except TimeoutError:
            return
