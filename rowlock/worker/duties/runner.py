"""The upkeep: duties that all workers share, claimed by whichever comes first, and each worker's own safety net."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.queue.connect.sessions import CUSTOM_PLAN
from rowlock.worker.duties.item import going_on
from rowlock.worker.duties.retention import Retention
from rowlock.worker.duties.statistics import AGAIN_AFTER, Statistics

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.database import Database
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.settings import Settings
    from rowlock.worker.loop.orders import Orders
    from rowlock.worker.loop.suspects import Alone

log = logs.get_logger("rowlock.worker")

LOOK_EVERY: Final = 1.0
PAUSE_MOST: Final = 5.0
"""How often it tries, at least, while the database does not answer."""
LOCK_WAIT: Final = 500
"""How long a statement of the upkeep waits for a lock, in milliseconds: cancels, orders and rescues wait with it."""
SHORT_WAIT: Final = {"lock_timeout": str(LOCK_WAIT)}
NET_EVERY: Final = 60.0
HOLD: Final = timedelta(seconds=3)
"""How long the duty `suspects` is kept from the other workers at a time; and from all of them once the one that has it
is done, so that there is time for other jobs."""
AWAY_SHARE: Final = 1 / 3
"""If the database was away for this share of a lease, leases may be lost that are nobody's crash: rescues are held."""
RESCUE_BATCH: Final = 500
FIRST_IDS: Final = 10
FORGET_BATCH: Final = 1000
DAYS_AHEAD: Final = 3
TRY_PARTITIONS_AGAIN: Final = timedelta(minutes=1)
TICKS_KEPT: Final = 1000
TICKS_KEPT_FOR: Final = timedelta(days=7)
RESULTS_BATCH: Final = 2000
RESULTS_PART: Final = timedelta(minutes=1)
RESULTS_LONGEST_PART: Final = timedelta(days=365)
"""Results are removed in parts of the time that is due: short ones where there is much, long ones where little."""
PROGRESS_BATCH: Final = 5000
UNCLAIMED_AFTER: Final = timedelta(seconds=30)
"""A job may be due so long before it is worth a word that nobody takes it: workers come and go in a deploy."""
UNCLAIMED_KINDS: Final = 20
UNCLAIMED_LOOK: Final = 1000


Steps: TypeAlias = "AsyncGenerator[None]"
"""A duty on its way: it yields after each bounded step, so that cancels, orders and other duties have their turn."""


class Upkeep:
    """Does the duties that are due, finds the cancels and orders that concern this worker, and looks about once a
    minute for jobs that the cursors could have left behind. Duties take turns, a bounded step at a time.

    `left_behind` counts how often there was one: it should stay at zero. `rescued` and, of these, `quarantined` count
    the jobs that were taken back, and `ended_overdue` those that ended because their time was over, by their state.
    """

    def __init__(
        self,
        settings: Settings,
        connection: ControlConnection,
        claims: Claims,
        database: Database,
        *,
        worker: Callable[[], UUID],
        on_cancel: Callable[[Mapping[tuple[UUID, int], str]], None],
        alone: Alone,
        orders: Orders,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._claims = claims
        self._database = database
        self._worker = worker
        self._on_cancel = on_cancel
        self._alone = alone
        self._orders = orders
        self._asked = asyncio.Event()
        self._retention = Retention(connection, database)
        self._statistics = Statistics(connection, database)
        self._duties: dict[str, Callable[[], Steps]] = {
            "rescue": self._rescue,
            "orphans": partial(self._rescue, orphans=True),
            "overdue": self._end_overdue,
            "suspects": _one_step(self._look_for_suspects),
            "keys": self._forget_keys,
            "partitions": self._create_partitions,
            "retention": _one_step(self._retention.begin),
            "ticks": _one_step(self._prune_ticks),
            "results": self._remove_results,
            "progress": self._forget_progress,
            "waiters": _one_step(self._forget_waiters),
            "unclaimed": _one_step(self._look_for_unclaimed),
            "statistics": _one_step(self._statistics.begin_counting),
            "backlog": _one_step(self._statistics.begin_sampling),
        }
        connection.on_return("hold_rescues", AWAY_SHARE * settings.lease.total_seconds())
        self.left_behind = 0
        self.rescued = self.quarantined = 0
        self.ended_overdue: Counter[str] = Counter()

    def look(self) -> None:
        """Look now: somebody wants one of this worker's jobs cancelled, or has said something of queues or workers."""
        self._asked.set()

    async def run(self) -> None:
        """Look for a due duty once a second, until cancelled. What fails is logged, and tried again next time."""
        try:
            await self._run()
        finally:
            await self._retention.stop()
            await self._statistics.stop()

    async def _run(self) -> None:
        begun: dict[str, Steps] = {}
        loop = asyncio.get_running_loop()
        attend_at = restore_at = loop.time()
        net_at = loop.time() + NET_EVERY
        pause = LOOK_EVERY
        try:
            while True:
                is_idle = False
                try:
                    if self._asked.is_set() or loop.time() >= attend_at:
                        self._asked.clear()
                        await self._attend()
                        attend_at = loop.time() + LOOK_EVERY
                    if loop.time() >= restore_at:
                        restore_at = loop.time() + NET_EVERY
                        await self._restore_rows()
                    is_idle = not await self._take_step(begun)
                    if is_idle and loop.time() >= net_at:
                        took = await self._look_behind()
                        net_at = loop.time() + max(NET_EVERY, 50 * took)
                    pause = LOOK_EVERY
                except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                    log.warning("upkeep_failed", error=type(error).__name__, detail=message(error))
                    is_idle = True
                    if not isinstance(error, asyncpg.LockNotAvailableError):
                        pause = min(pause * 2, PAUSE_MOST)
                if is_idle:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(pause * random.uniform(0.8, 1.2)):  # noqa: S311  # jitter
                            await self._asked.wait()
                    attend_at = loop.time()
        finally:
            for steps in begun.values():
                await steps.aclose()

    async def _attend(self) -> None:
        """Hear cancels and orders, and keep the duty `suspects` while it is this worker's."""
        await self._find_cancelled()
        await self._orders.look(self._connection)
        if self._alone.is_wanted:
            await self._connection.fetch("hold_duty", "suspects", HOLD)

    async def _take_step(self, begun: dict[str, Steps]) -> bool:
        """Begin a duty that is due, and do one step of those begun, in turn. Returns whether there was one.

        A duty that fails, or would have to wait for a lock, is over until it is due again.
        """
        duties = self._duties
        without = {*begun, "suspects"} if self._orders.is_quiet else begun
        rows = await self._connection.fetch("claim_duty", [name for name in duties if name not in without])
        begun |= {row["name"]: duties[row["name"]]() for row in rows}
        if not begun:
            return False
        name = next(iter(begun))
        steps = begun.pop(name)
        with going_on(name):
            if await anext(steps, "over") is None:
                begun[name] = steps  # behind the others
        return True

    async def _restore_rows(self) -> None:
        """Restore the rows that exist once each, without which a duty, or the statistics, would rest for ever."""
        rows = await self._connection.fetch("restore_rows", AGAIN_AFTER)
        if rows:
            log.warning("rows_restored", rows=[row["restored"] for row in rows])

    async def _find_cancelled(self) -> None:
        """Stop the jobs of this worker that an operator wants cancelled; a notification only makes it sooner."""
        rows = await self._connection.fetch("list_cancel_requests", self._worker())
        if rows:
            self._on_cancel({(row["id"], row["attempt"]): row["cancel_reason"] for row in rows})

    async def _rescue(self, *, orphans: bool = False) -> Steps:
        """Take back the jobs of workers that are gone, and tell the others."""
        while True:
            rows = await self._connection.fetch("rescue", self._settings.max_crashes, RESCUE_BATCH, orphans)
            for row in rows:
                told = {"job_id": str(row["id"]), **{name: row[name] for name in ("queue", "task", "attempt")}}
                told["dead_worker"] = str(row["worker"])
                if row["is_quarantined"]:
                    log.error("job_quarantined", **told)
                else:
                    log.warning("job_rescued", **told)
            if rows:
                self.rescued += len(rows)
                self.quarantined += sum(row["is_quarantined"] for row in rows)
                await self._connection.fetch("wake", list({row["queue"] for row in rows}))
                await self._connection.fetch("tell_waiters", [row["id"] for row in rows])
            if len(rows) < RESCUE_BATCH:
                break
            yield
        await self._connection.fetch("forget_workers")

    async def end_overdue(self) -> None:
        """End now what is overdue, whoever has the duty: for a drain, which leaves nothing that is due."""
        async for _ in self._end_overdue():
            pass

    async def _end_overdue(self) -> Steps:
        """End the waiting jobs that have expired, whose deadline has passed, or whose cancel was requested."""
        ended, first = Counter[str](), list[str]()
        try:
            while True:
                rows = await self._connection.fetch("end_overdue", RESCUE_BATCH)
                ended.update(row["state"] for row in rows)
                self.ended_overdue.update(row["state"] for row in rows)
                first += [str(row["id"]) for row in rows[: FIRST_IDS - len(first)]]
                if rows:
                    await self._connection.fetch("tell_waiters", [row["id"] for row in rows])
                if len(rows) < RESCUE_BATCH:
                    break
                yield
        finally:
            if ended:
                log.info("jobs_ended_overdue", count=ended.total(), first_ids=first, **ended)

    async def _look_for_suspects(self) -> None:
        """Have this worker run the jobs that are on their last chance, each alone; meanwhile no other worker does."""
        if await self._claims.is_suspect_due():
            self._alone.want()
            await self._connection.fetch("hold_duty", "suspects", HOLD)

    async def _forget_keys(self) -> Steps:
        """Remove the unique keys, the answers to HTTP requests, and the sessions, whose time is over."""
        for name in ("forget_unique_keys", "forget_idempotency_keys", "forget_sessions"):
            with going_on("keys", statement=name):
                while (await self._connection.fetch(name, FORGET_BATCH))[0]["forgotten"] == FORGET_BATCH:
                    yield

    async def _create_partitions(self) -> Steps:
        """Make the partitions that are missing, each in a transaction; those that somebody keeps locked in a minute."""
        missing = await self._connection.fetch("missing_partitions", DAYS_AHEAD)
        made, locked = 0, list[str]()
        for row in missing:
            with going_on("partitions", archive=row["archive"], day=str(row["day"])):
                try:
                    made += (await self._connection.fetch("create_partition", row["archive"], row["day"]))[0]["is_made"]
                except asyncpg.LockNotAvailableError:
                    locked.append(f"{row['archive']} {row['day']}")
            yield
        if made:
            log.info("partitions_created", count=made)
        if locked:
            log.warning("partitions_postponed", partitions=locked)
            await self._connection.fetch("hold_duty", "partitions", TRY_PARTITIONS_AGAIN)

    async def _prune_ticks(self) -> None:
        pruned = (await self._connection.fetch("prune_ticks", TICKS_KEPT, TICKS_KEPT_FOR))[0]["pruned"]
        if pruned:
            log.info("ticks_pruned", count=pruned)

    async def _remove_results(self) -> Steps:
        """Remove the results whose lifetime is over: what came due since the last time, part by part.

        By the application's connection: only a bitmap scan finds a window of time, which the control connections avoid.
        """
        async with self._database.transaction(plan=SHORT_WAIT) as transaction:
            tasks = await transaction.run("expired_results")
        for task in tasks:
            part, removed, is_last = RESULTS_PART, 0, False
            with going_on("results", task=task["name"]):
                while not is_last:
                    async with self._database.transaction(plan=CUSTOM_PLAN | SHORT_WAIT) as transaction:
                        due = await transaction.run("due_results", task["name"], part)
                        if not due:
                            break
                        since, until, is_last = due[0]
                        ((count,),) = await transaction.run("remove_results", task["name"], since, until, RESULTS_BATCH)
                    removed += count
                    is_full = count >= RESULTS_BATCH
                    is_last = is_last and not is_full
                    part = part / 4 if is_full else min(part * 2, RESULTS_LONGEST_PART)
                    yield
            if removed:
                log.info("results_removed", task=task["name"], count=removed)

    async def _forget_progress(self) -> Steps:
        """Remove the progress of jobs that are gone from the archive, batch by batch."""
        last: UUID | None = UUID(int=0)
        while last is not None:
            last = (await self._connection.fetch("forget_progress", last, PROGRESS_BATCH))[0]["last"]
            yield

    async def _forget_waiters(self) -> None:
        await self._connection.fetch("forget_waiters")

    async def _look_for_unclaimed(self) -> None:
        """Say which due jobs no live worker would take."""
        for row in await self._connection.fetch("doctor_unclaimed", UNCLAIMED_KINDS, UNCLAIMED_LOOK):
            if row["waiting"] >= UNCLAIMED_AFTER:
                told = {name: row[name] for name in ("task", "args_version", "queue", "jobs", "why")}
                log.warning("jobs_nobody_takes", **told, waiting=round(row["waiting"].total_seconds()))

    async def _look_behind(self) -> float:
        """Look behind the settled cursors; if anything is there, let the claims begin again at the beginning."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for claims in (self._claims, *self._claims.apart):
            settled = claims.settled
            rows = await self._connection.fetch(
                "late",
                [lane.queue for lane in settled],
                [lane.priority for lane in settled],
                [position.run_at for position in settled.values()],
                [position.id for position in settled.values()],
                claims.claimed,
                claims.last_chance,
            )
            if rows[0]["is_left_behind"]:
                self.left_behind += 1
                log.warning("job_left_behind")
                claims.reset()
        return loop.time() - began


def _one_step(do: Callable[[], Awaitable[None]]) -> Callable[[], Steps]:
    """A duty that is short."""

    async def steps() -> Steps:
        await do()
        yield

    return steps
