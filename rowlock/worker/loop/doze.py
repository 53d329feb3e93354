"""Idle waiting: poll while many jobs arrive, and sleep until NOTIFY while few do.

A commit that sends a NOTIFY takes a lock of the whole server, so enqueues notify only if a worker is marked as idle.
The mark follows the rate of arrivals, not each job: it is set while few jobs arrive, and removed when many do. A marked
worker tests whether notifications reach it, and claims when one comes, when a job falls due, and now and then.
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
"""The rate of arrivals is measured over this long. A worker that finds no job for as long marks itself as idle."""
BUSY_JOBS_PER_SECOND: Final = 200
"""At more arrivals than this the worker removes the mark: polling every few milliseconds finds as many, for free. At
less than half of it, the worker marks itself."""
HERD_SECONDS: Final = 2.0
"""How long a worker stays without the mark that heard of many more jobs than it found: each notification wakes all
marked workers, and others took the jobs."""
HEARING_SHARE: Final = 10
"""A worker that notifications reach polls this many times as rarely as one that they do not reach."""


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
        self._open_until: int | None = None
        self._hears_all = False
        self._pause = PAUSE_FIRST
        self._dry_since = time.monotonic()
        self._window_began, self._window_jobs = time.monotonic(), 0
        self._window_heard = 0
        self._per_second = 0.0
        self._mark_at = 0.0

    def wake(self, queue: str = "") -> None:
        """End the wait because there may be work, in this queue if it is named; or end the next wait."""
        self._window_heard += bool(queue)
        self._awake.set()

    def heard(self) -> None:
        """Note that a notification arrived, which proves that the connection listens."""
        self._ear.heard()

    def lost_mark(self) -> None:
        """Forget the mark: the connection is a new one, and another server may not have the mark."""
        self._is_marked = False
        self._ear.begin()
        self.wake()

    @property
    def may_sleep(self) -> bool:
        """Whether the next wait may be long: then the claim before it looks ahead."""
        return self._is_marked or not self._may_listen

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
        jobs_found, heard = self._window_jobs, self._window_heard
        self._per_second = max(jobs_found, heard) / (now - self._window_began)
        self._window_began, self._window_jobs, self._window_heard = now, 0, 0
        if self._per_second > BUSY_JOBS_PER_SECOND:
            if heard > 2 * jobs_found:
                self._mark_at = now + HERD_SECONDS
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
        if not self._is_marked and self._may_listen and self._is_quiet:
            self._marked = sorted(self._claims.open_queues)
            await self._connection.fetch("mark_idle", self._worker, self._marked)
            self._is_marked, self._open_until, self._hears_all = True, None, False
            self._ear.begin()
            return  # to claim once more: jobs enqueued before the mark did not notify
        if self._is_marked and not await self._ear.test():
            return
        try:
            async with asyncio.timeout(self._longest_pause()):
                await self._awake.wait()
        except TimeoutError:
            return

    @property
    def _is_quiet(self) -> bool:
        """Whether few jobs arrive, or none, here and at the other workers."""
        now = time.monotonic()
        if now < self._mark_at:
            return False
        if now - self._dry_since >= QUIET_SECONDS:
            return True
        return now - self._window_began < QUIET_SECONDS and self._per_second < BUSY_JOBS_PER_SECOND / 2

    def _is_told_of_all(self) -> bool:
        """Whether each transaction has ended that may have enqueued before the mark was there: it notifies nobody.

        Asked after each claim: the first one after the mark says which transactions these are.
        """
        if self._open_until is None:
            self._open_until = self._claims.xmax
        elif self._claims.xmin >= self._open_until:
            self._hears_all = True
        return self._hears_all

    def _longest_pause(self) -> float:
        """How long to wait for a notification, in seconds."""
        if not self._is_marked:
            self._pause = min(self._pause * 2, PAUSE_BUSY_MOST if self._may_listen else self._poll)
            return min(self._pause, self._claims.next_due_in())
        pause = self._poll
        if self._claims.has_looked_behind and self._is_told_of_all():
            pause *= HEARING_SHARE
        pause = min(pause, self._claims.next_due_in())  # seam: next due
        return min(pause, self._ear.due_in())  # seam: listening
