"""A worker's main loop: claim while slots are free, wait while they are not, doze while there is no work."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs, steady
from rowlock.errors import RowlockError
from rowlock.queue.claim.claims import NotLeased
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.loop.slots import STALE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from asyncpg import Record

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.finish.finishes import Finishes
    from rowlock.worker.loop.doze import Doze
    from rowlock.worker.loop.orders import Orders
    from rowlock.worker.loop.shares import Share, Shares
    from rowlock.worker.loop.slots import Slots
    from rowlock.worker.loop.suspects import Alone
    from rowlock.worker.vitals.counts import Counts
    from rowlock.worker.vitals.lease import Lease

log = logs.get_logger("rowlock.worker")

TRANSIENT: Final = (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError)
PAUSE_FIRST: Final = 0.1
PAUSE_MOST: Final = 5.0
MOST_PENDING: Final = 5000
"""The loop does not claim while this many outcomes wait to be recorded: the database is slow, or away."""
QUIET_SECONDS: Final = 0.2
"""How long a quiet worker waits before it checks again whether it is resumed or stopped."""
LATE_SECONDS: Final = 0.05
"""How long the loop waits at a time while the lease is neither held nor lost."""
REWOUND: Final = "the database lost their earlier claims; the running attempts go on"
BLOCKED: Final = "its earlier attempt still runs here: it was stopped because its lease was lost, and has not ended"
ADOPT_SECONDS: Final = 60.0
ADOPT_EVERY: Final = 5.0
"""A failed claim may still run in the server: the loop looks for its jobs every `ADOPT_EVERY`, for `ADOPT_SECONDS`.
Likewise after a reconnect: another server may have lost outcomes of this worker, whose jobs still run there."""
ADOPT_NET: Final = 60.0
"""How often the loop looks for them in any case: behind a pooler a failover causes no reconnect."""
TRIM_EVERY: Final = 5.0
"""How often the loop shortens what is written down of large claims most of whose jobs have ended, in seconds."""
BLOCKED_SECONDS: Final = 5.0
"""The delay of a job that is released because its earlier attempt still runs here: another worker may claim it after
that, or the earlier attempt may have ended."""


class MainLoop:
    """Bring jobs from the claims to the slots, until the worker stops or the lease is lost."""

    def __init__(
        self,
        claims: Claims,
        slots: Slots,
        finishes: Finishes,
        *,
        shares: Shares,
        doze: Doze,
        alone: Alone,
        orders: Orders,
        counts: Counts,
        lease: Lease,
        stopping: asyncio.Event,
        release: Callable[..., None],
    ) -> None:
        self._claims = claims
        self._slots = slots
        self._finishes = finishes
        self._shares = shares
        self._doze = doze
        self._alone = alone
        self._orders = orders
        self._counts = counts
        self._lease = lease
        self._stopping = stopping
        self._release = release
        self._loop = asyncio.get_running_loop()
        self._adopt_until = self._adopt_at = 0.0
        self._adopt_net_at = self._loop.time() + ADOPT_NET
        self._trim_at = self._loop.time() + TRIM_EVERY
        self._turns = 0

    def look_for_unknown(self) -> None:
        """For a while, look for jobs that are claimed for this worker without its knowledge."""
        self._adopt_until = self._loop.time() + ADOPT_SECONDS

    async def until_over(self, background: Sequence[asyncio.Task[None]]) -> None:
        """Work until the worker is asked to stop, the lease is lost, or one of these tasks has failed."""
        pause = PAUSE_FIRST
        while not (self._stopping.is_set() or self._lease.is_lost):
            for task in background:
                if task.done():
                    task.result()  # raises a defect: these tasks do not end by themselves
            try:
                await self._work_once()
                pause = PAUSE_FIRST
            except NotLeased:
                await self._stops_within(LATE_SECONDS)  # the lease's thread will notice soon
            except TRANSIENT as error:
                log.warning("claim_failed", error=type(error).__name__, detail=message(error), retry_in=round(pause, 1))
                self._claims.reset()
                self.look_for_unknown()  # seam: look after a failed claim
                await self._stops_within(pause * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
                pause = min(pause * 2, PAUSE_MOST)

    async def _work_once(self) -> None:
        if not await self._has_lease():
            return
        now = self._loop.time()
        if now < self._adopt_until or now >= self._adopt_net_at or self._slots.doubled:
            await self._adopt()
        if now >= self._trim_at:
            self._trim_at = now + TRIM_EVERY
            await self._claims.trim(self._lease.worker)
        for attempt in self._slots.take_ready(older_than=STALE_SECONDS):
            self._release(attempt)
        if self._orders.is_quiet:
            self._alone.end()
            await self._doze.busy()  # a notification would be useless
            await self._stops_within(QUIET_SECONDS)
            return
        if self._alone.is_wanted:
            await self._doze.busy()
            await self._alone.step()
            return
        shares = self._with_room() if self._finishes.pending < MOST_PENDING else []
        if not shares:
            if not await self._slots.changed(timeout=1.0):
                await self._doze.busy()  # full for a second: a notification would be useless
            return
        await self._claim_or_wait(shares)

    async def _claim_or_wait(self, shares: Sequence[Share]) -> None:
        """Claim as many jobs as there is room for. If the queues have no more, run a job that runs alone, or wait."""
        if all(claims.begins_anew for claims, _ in shares):
            self._doze.before_claim()
        found = await self.claim()
        await self._doze.found(found)
        if all(claims.is_dry for claims, _ in shares) and not self._stopping.is_set():
            if found == 0 and await self._alone.begin_if_idle():
                return
            await self._doze.wait()

    async def _has_lease(self) -> bool:
        """Whether jobs may be claimed now."""
        if not self._lease.may_claim:
            await self._stops_within(LATE_SECONDS)  # a renewal is late: it succeeds soon, or the lease is lost
        await self._finishes.connect()
        return self._lease.may_claim

    async def _adopt(self) -> None:
        """Adopt jobs of claims whose answers were lost."""
        if self._loop.time() < self._adopt_at:  # seam: adopting
            return
        known, asked_at = self._slots.known() | self._finishes.known(), steady.seconds()
        rows = await self._claims.adopt(self._lease.worker, known)
        self._slots.doubled &= known  # the other ones are in `rows`, or belong to another worker
        self._adopt_at = self._loop.time() + ADOPT_EVERY
        self._adopt_net_at = self._loop.time() + ADOPT_NET
        if rows:
            self._counts.adopted += len(rows)
            log.info("jobs_adopted", count=len(rows))
            self._take_on(self._alone.adopt(rows), asked_at)

    async def claim(self, most: int | None = None) -> int:
        """Claim as many jobs as there is room for, at most `most`, and put them into the slots. Return how many.

        The tasks of a binding executor have a share of their own: no more of their jobs are claimed than it can run.
        """
        shares, found = self._shares, 0
        turn = self._turns = (self._turns + 1) % len(shares)
        for claims, executor in (*shares[turn:], *shares[:turn]):
            room = self._slots.room(executor)
            room = room if most is None else min(room, most)
            if room <= 0 or (found and self._takes_no_more):
                continue
            asked_at = steady.seconds()
            rows = await claims.claim(self._lease.worker, room, self._slots.limits(), looks_ahead=self._doze.may_sleep)
            self._counts.note_claim(rows, claims.looked_until, claims.took)
            self._take_on(rows, asked_at)
            found += len(rows)
        return found

    @property
    def _takes_no_more(self) -> bool:
        return self._stopping.is_set() or self._orders.is_quiet or self._lease.is_lost

    def _with_room(self) -> list[Share]:
        return [(claims, executor) for claims, executor in self._shares if self._slots.room(executor) > 0]

    def _take_on(self, rows: Sequence[Record], asked_at: float) -> None:
        """Put claimed jobs into the slots; release them if the lease was lost meanwhile, since they never began."""
        if self._lease.is_lost:
            for row in rows:
                self._release(Attempt(row, steady.seconds(), self._lease))
            return
        doubled = len(self._slots.doubled)
        for attempt in self._slots.add(rows, self._lease, asked_at):
            log.warning("job_given_back", job_id=str(attempt.claimed["id"]), why=BLOCKED)
            self._release(attempt, BLOCKED_SECONDS)
        if len(self._slots.doubled) > doubled:
            log.warning("jobs_claimed_twice", count=len(self._slots.doubled) - doubled, why=REWOUND)

    async def _stops_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def until_dry(self) -> None:
        """Work until no job is due and all outcomes are recorded, or until the worker may not claim any more."""
        while not self._takes_no_more:
            if not await self._has_lease():
                continue
            if self._alone.is_wanted:
                await self._alone.step()
                continue
            has_room = bool(self._with_room())
            try:
                found = await self.claim()
            except NotLeased:
                continue  # the lease's thread will notice soon
            if found == 0 and has_room and self._slots.is_empty:
                await self._finishes.flush()
                self._claims.rescan()
                # Claim jobs that the last ones enqueued, or that are due again at once; then jobs that run alone.
                if await self.claim(self._slots.concurrency) == 0 and not await self._alone.begin():
                    return
            elif found == 0:
                await self._slots.changed(timeout=0.05)


__all__ = ["MainLoop"]
