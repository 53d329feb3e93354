"""Run the duties that this worker claims, and the safety nets of each worker."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.worker.duties.keys import forget_keys
from rowlock.worker.duties.left_behind import look_behind
from rowlock.worker.duties.overdue import end_overdue
from rowlock.worker.duties.partitions import create_partitions
from rowlock.worker.duties.progress import forget_progress
from rowlock.worker.duties.rescue import rescue
from rowlock.worker.duties.results import remove_results
from rowlock.worker.duties.retention import RetentionDuty
from rowlock.worker.duties.statistics import AGAIN_AFTER, StatisticsDuty
from rowlock.worker.duties.steps import going_on, one_step
from rowlock.worker.duties.suspects import look_for_suspects
from rowlock.worker.duties.ticks import prune_ticks
from rowlock.worker.duties.unclaimed import warn_of_unclaimed
from rowlock.worker.duties.waiters import forget_waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rowlock.queue.claim.claims import Claims
    from rowlock.queue.connect.database import Database
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps
    from rowlock.worker.loop.suspects import Alone
    from rowlock.worker.vitals.counts import Counts

log = logs.get_logger("rowlock.worker")

PAUSE_FIRST: Final = 1.0
PAUSE_MOST: Final = 5.0
"""The longest pause between two tries while the database does not answer, in seconds."""
NET_EVERY: Final = 60.0
NET_SHARE: Final = 50
"""A look behind the cursors that took t seconds is not repeated for this many times t."""


class Duties:
    """Do the due duties in turn, a bounded step at a time, and the safety nets once a minute.

    Nothing else uses the connection: cancels, orders and ticks do not wait for a long step.
    """

    def __init__(
        self, connection: ControlConnection, database: Database, claims: Claims, *, alone: Alone, counts: Counts
    ) -> None:
        self._connection = connection
        self._claims = claims
        self._alone = alone
        self._counts = counts
        self._retention = RetentionDuty(connection, database)
        self._statistics = StatisticsDuty(connection, database)
        max_crashes = database.settings.max_crashes
        self._duties: dict[str, Callable[[], Steps]] = {
            "rescue": partial(rescue, connection, counts, max_crashes=max_crashes),
            "orphans": partial(rescue, connection, counts, max_crashes=max_crashes, orphans=True),
            "overdue": partial(end_overdue, connection, counts),
            "suspects": partial(one_step, partial(look_for_suspects, connection, claims, alone)),
            "keys": partial(forget_keys, connection),
            "partitions": partial(create_partitions, connection),
            "retention": partial(one_step, self._retention.begin),
            "ticks": partial(one_step, partial(prune_ticks, connection)),
            "results": partial(remove_results, database),
            "progress": partial(forget_progress, connection),
            "waiters": partial(one_step, partial(forget_waiters, connection)),
            "unclaimed": partial(one_step, partial(warn_of_unclaimed, connection)),
            "statistics": partial(one_step, self._statistics.begin_counting),
            "backlog": partial(one_step, self._statistics.begin_sampling),
        }
        self._begun: dict[str, Steps] = {}
        self._noticed: set[str] = set()
        self._has_noticed = asyncio.Event()

    @property
    def wanted(self) -> list[str]:
        """The duties that this worker can begin. One that is quiet or stops leaves the suspects to another worker."""
        may_be_wanted = self._alone.may_be_wanted
        return [name for name in self._duties if name not in self._begun and (name != "suspects" or may_be_wanted)]

    def notice(self, duties: Iterable[str]) -> None:
        """Note that these duties are due."""
        self._noticed.update(duties)
        if self._noticed:
            self._has_noticed.set()

    async def run(self) -> None:
        """Do the duties that are noticed, until cancelled. Log a failure, and go on with what is noticed next."""
        try:
            await self._run()
        finally:
            for steps in self._begun.values():
                await steps.aclose()
            await self._retention.stop()
            await self._statistics.stop()

    async def end_overdue(self) -> None:
        """End overdue jobs now, also if another worker has the duty: a drain leaves no due job."""
        async for _ in end_overdue(self._connection, self._counts):
            pass

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        restore_at = loop.time()
        net_at = loop.time() + NET_EVERY
        pause = PAUSE_FIRST
        while True:
            has_failed = is_idle = False
            try:
                if loop.time() >= restore_at:
                    restore_at = loop.time() + NET_EVERY
                    await self._restore_rows()
                is_idle = not await self._take_step()
                if is_idle and loop.time() >= net_at:
                    began = loop.time()
                    await look_behind(self._connection, self._claims, self._counts)
                    net_at = loop.time() + max(NET_EVERY, NET_SHARE * (loop.time() - began))
                pause = PAUSE_FIRST
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                log.warning("duties_failed", error=type(error).__name__, detail=message(error))
                has_failed = True
                if not isinstance(error, asyncpg.LockNotAvailableError):
                    pause = min(pause * 2, PAUSE_MOST)
            if has_failed:
                await asyncio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311  # jitter
            elif is_idle:
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(min(restore_at, net_at) - loop.time(), 0)):
                        await self._has_noticed.wait()

    async def _take_step(self) -> bool:
        """Begin the due duties, and do one step of those that have begun, in turn. Return whether there was one.

        A duty that fails, or that would wait for a lock, ends until it is due again.
        """
        begun = self._begun
        wanted, self._noticed = [name for name in self.wanted if name in self._noticed], set()
        self._has_noticed.clear()
        rows = await self._connection.fetch("claim_duties", wanted) if wanted else []
        begun |= {row["name"]: self._duties[row["name"]]() for row in rows}
        if not begun:
            return False
        name = next(iter(begun))
        steps = begun.pop(name)
        with going_on(name):
            if await anext(steps, "over") is None:
                begun[name] = steps  # moves to the end
        return True

    async def _restore_rows(self) -> None:
        """Restore missing rows of the duties and of the statistics' marks: without them the duties would never run."""
        rows = await self._connection.fetch("restore_rows", AGAIN_AFTER)
        if rows:
            log.warning("rows_restored", rows=[row["restored"] for row in rows])


__all__ = ["Duties"]
