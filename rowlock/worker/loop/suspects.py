"""Jobs on their last chance run alone: a job is only set aside for a crash that no other job can have caused."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from rowlock import logs, steady
from rowlock.worker.attempt.attempt import Attempt

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Record

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.finish.finishes import Finishes
    from rowlock.worker.loop.orders import Orders
    from rowlock.worker.loop.slots import Slots
    from rowlock.worker.vitals.lease import Lease

log = logs.get_logger("rowlock.worker")

ENOUGH_SECONDS: Final = 5.0
"""After so long of one lonely job after the other, the worker takes others again, in its turn with the lonely ones."""
STEP_SECONDS: Final = 1.0
IDLE_EVERY: Final = 1.0
"""How often a worker that has nothing to do looks for such a job by itself: it has room already."""


class Alone:
    """What one worker does so that a job on its last chance is all that it holds: it makes room, takes one, waits.

    The duty `suspects` asks for it (`want`), in one worker at a time. The main loop then claims nothing else, and takes
    steps until it is over.
    """

    def __init__(
        self,
        claims: Claims,
        slots: Slots,
        finishes: Finishes,
        *,
        stopping: asyncio.Event,
        orders: Orders,
        lease: Lease,
        release: Callable[[Attempt], None],
        wake: Callable[[], None],
    ) -> None:
        self._claims = claims
        self._slots = slots
        self._finishes = finishes
        self._stopping = stopping
        self._orders = orders
        self._lease = lease
        self._release = release
        self._wake = wake
        self._is_wanted = False
        self._until: float | None = None  # None as long as it only makes room
        self._looked_at = 0.0

    @property
    def is_wanted(self) -> bool:
        """Whether the worker is to claim nothing else now. Never if it is quiet or stops: another one is to do it."""
        return self._is_wanted and self.may_be_wanted

    @property
    def may_be_wanted(self) -> bool:
        """Whether it is this worker's turn at all: another one is to do it if this one is quiet or stops."""
        return not (self._stopping.is_set() or self._orders.is_quiet)

    def want(self) -> None:
        """Claim nothing else from now on, until no job on its last chance is due, or it was enough of them."""
        if self._is_wanted or not self.may_be_wanted:
            return
        self._is_wanted = True
        log.info("claims_paused", why="a job that may have taken its workers down is to run alone")
        self._wake()

    def end(self) -> None:
        """Claim as usual again."""
        if self._is_wanted:
            log.info("claims_resumed")
        self._is_wanted, self._until = False, None

    async def begin_if_idle(self) -> bool:
        """Take a job now and then if the worker holds nothing anyway; False if none is due, or it is not the time."""
        now = steady.seconds()
        if now - self._looked_at < IDLE_EVERY or not self._slots.is_empty or self._finishes.known():
            return False
        self._looked_at = now
        return await self.begin()

    async def begin(self) -> bool:
        """Take a job now, since the worker holds nothing; False if none is due."""
        if await self._take():
            self.want()
        return self._is_wanted

    async def step(self) -> None:
        """Come one step further: give back what waits for a slot, wait for what runs, take the next job, or end."""
        for attempt in self._slots.take_ready():
            self._release(attempt)
        if not self._slots.is_empty:
            has_changed = await self._slots.changed(timeout=STEP_SECONDS)
            if not has_changed and self._until is None and not await self._claims.is_suspect_due():
                self.end()  # cancelled, for instance: there is no need to make room any more
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(STEP_SECONDS):
                await self._finishes.flush()
        if self._finishes.known():
            return
        if (self._until is not None and steady.seconds() > self._until) or not await self._take():
            self.end()

    def adopt(self, rows: Sequence[Record]) -> list[Record]:
        """Give back what must not run beside others, of jobs that the worker held without knowing; return the rest."""
        rest = []
        for row in rows:
            if self._is_wanted or row["crashes"] >= self._claims.last_chance:
                self._release(Attempt(row, steady.seconds(), self._lease))
            else:
                rest.append(row)
        return rest

    async def _take(self) -> bool:
        lease = self._lease
        if not lease.is_held:
            return False
        asked_at = steady.seconds()
        rows = await self._claims.claim_alone(lease.worker)
        if lease.is_lost:
            for row in rows:
                self._release(Attempt(row, steady.seconds(), lease))
            return False
        for row in rows:
            log.info("job_runs_alone", job_id=str(row["id"]), task=row["task"], crashes=row["crashes"])
        if rows and self._until is None:
            self._until = steady.seconds() + ENOUGH_SECONDS
        for attempt in self._slots.add(rows, lease, asked_at):
            self._release(attempt)
        return bool(rows)
