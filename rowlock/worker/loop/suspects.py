"""Run jobs on their last chance alone: a job is only quarantined for a crash that no other job can have caused."""

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
"""After this long of jobs that run alone, the worker runs other jobs again, in turn with those that run alone."""
STEP_SECONDS: Final = 1.0


class Alone:
    """Run jobs on their last chance so that the worker holds no other job: empty the slots, claim one, wait for it.

    The duty `suspects` starts this (`want`), in one worker at a time. The main loop then claims no other jobs, and
    calls `step` until this ends.
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
        self._until: float | None = None  # None until the first such job is claimed
        self._may_be_due = False

    @property
    def is_wanted(self) -> bool:
        """Whether the worker must claim no other jobs now. False if it is quiet or stops: another worker does it."""
        return self._is_wanted and self.may_be_wanted

    @property
    def may_be_wanted(self) -> bool:
        """Whether this worker may run jobs alone. False if it is quiet or stops: another worker does it."""
        return not (self._stopping.is_set() or self._orders.is_quiet)

    def want(self) -> None:
        """Claim no other jobs until no job on its last chance is due, or `ENOUGH_SECONDS` are over."""
        if self._is_wanted or not self.may_be_wanted:
            return
        self._is_wanted = True
        log.info("claims_paused", why="a job that may have crashed its workers must run alone")
        self._wake()

    def end(self) -> None:
        """Claim as usual again."""
        if self._is_wanted:
            log.info("claims_resumed")
        self._is_wanted, self._until = False, None

    def notice(self) -> None:
        """Note that such a job may be due. An idle worker claims it without the duty: no other job must end first."""
        self._may_be_due = True
        if self._slots.is_empty:
            self._wake()

    async def begin_if_idle(self) -> bool:
        """Claim such a job if one may be due and the worker is idle. False if it claims none."""
        if not self._may_be_due or not self._slots.is_empty or self._finishes.known():
            return False
        self._may_be_due = False
        return await self.begin()

    async def begin(self) -> bool:
        """Claim such a job now, in a worker that holds no other; False if none is due."""
        if await self._take():
            self.want()
        return self._is_wanted

    async def step(self) -> None:
        """Do one step: release attempts that wait for a slot, wait for those that run, claim the next job, or end."""
        for attempt in self._slots.take_ready():
            self._release(attempt)
        if not self._slots.is_empty:
            has_changed = await self._slots.changed(timeout=STEP_SECONDS)
            if not has_changed and self._until is None and not await self._claims.is_suspect_due():
                self.end()  # it was cancelled, for example: no job needs the slots to be empty
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(STEP_SECONDS):
                await self._finishes.flush()
        if self._finishes.known():
            return
        if (self._until is not None and steady.seconds() > self._until) or not await self._take():
            self.end()

    def adopt(self, rows: Sequence[Record]) -> list[Record]:
        """Release adopted jobs that must not run beside others. Return the rest."""
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
