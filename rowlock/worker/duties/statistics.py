"""The duties `statistics` and `backlog`: count ended jobs and attempts, and sample the queues' lengths."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.read.statistics import MOST_NAMED, MOST_SAMPLED, SHORTEST_STEP, STEPS, slot_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowlock.queue.connect.database import Database
    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

PART: Final = timedelta(minutes=10)
"""How much of the archive one transaction counts, after a pause."""
FURTHEST: Final = timedelta(days=1)
"""How far back counting begins after a pause. Jobs that ended before stay uncounted."""
BEFORE_A_STEP: Final = timedelta(hours=1)
"""How far back counting begins after the server's clock went back: counting may have rested so long since then."""
AGAIN_AFTER: Final = timedelta(minutes=2)
"""Everything is counted a second time this much later: a finish may commit long after its `finished_at`."""
MARKS: Final = 2
SHARE: Final = 50
"""A duty rests this many times as long as it took, so that it uses at most a fiftieth of a connection's time."""
LONGEST: Final = 120.0
FORGET_EVERY: Final = 600.0
"""How often a worker removes old slots, in seconds."""

BY_TIME: Final = {
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
}
"""Settings under which BRIN finds a window of time, also while the planner believes that today's partition is empty."""
BY_INDEX: Final = PLANNER_SETTINGS | {"max_parallel_workers_per_gather": "0"}


class StatisticsDuty:
    """Count in tasks of their own, so that the worker's other duties do not wait."""

    def __init__(self, connection: ControlConnection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._forget_at = 0.0
        self._running: dict[str, asyncio.Task[None]] = {}

    async def begin_counting(self) -> None:
        """Start to count, unless it runs already."""
        self._begin("statistics", self.count)

    async def begin_sampling(self) -> None:
        """Start to sample the queues' lengths, unless it runs already."""
        self._begin("backlog", self.sample)

    async def stop(self) -> None:
        """Stop in the middle. The next run continues."""
        for running in self._running.values():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def count(self) -> None:
        """Count what ended since the last run, and again what ended two minutes ago. Now and then remove old slots."""
        while not await self._count_part():
            pass
        if (now := time.monotonic()) < self._forget_at:
            return
        self._forget_at = now + FORGET_EVERY
        steps, kept = list(STEPS), list(STEPS.values())
        async with self._database.transaction(plan=BY_INDEX, timeout=LONGEST) as transaction:
            await transaction.run("forget_statistics", steps, kept)

    async def sample(self) -> None:
        """Store how many live jobs each queue has."""
        async with self._database.transaction(plan=BY_INDEX, timeout=LONGEST) as transaction:
            await transaction.run("sample_backlog", list(STEPS)[1:], MOST_SAMPLED)

    async def _count_part(self) -> bool:
        """Count one due part in one transaction. Return whether no part is left, or another worker counts."""
        async with self._database.transaction(plan=BY_TIME, timeout=LONGEST) as transaction:
            rows = await transaction.run("lock_statistics")
            if len(rows) < MARKS:
                return True
            now: datetime = rows[0]["now"]
            marks = {row["name"]: row["until"] for row in rows}
            if any(mark > now for mark in marks.values()):
                # The server's clock has gone back, at an unknown time. Slots that were counted keep their counts.
                await transaction.run("set_back_statistics", slot_of(now - BEFORE_A_STEP, SHORTEST_STEP))
                return False
            due = {"counted": now, "recounted": slot_of(now - AGAIN_AFTER, SHORTEST_STEP)}
            spans = {name: _next_part(marks[name], due[name], now) for name in due if marks[name] < due[name]}
            if not spans:
                return True
            counted = 0
            for since, until in set(spans.values()):
                [found] = await transaction.run("count_finished", SHORTEST_STEP, since, until, MOST_NAMED)
                counted += found["slots"]
            since, until = min(begin for begin, _ in spans.values()), max(end for _, end in spans.values())
            for shorter, longer in pairwise(STEPS) if counted else ():
                await transaction.run("add_up_statistics", longer, shorter, slot_of(since, longer), until, MOST_NAMED)
            await transaction.run("move_statistics", list(spans), [until for _, until in spans.values()])
        return all(until == due[name] for name, (_, until) in spans.items())

    def _begin(self, duty: str, do: Callable[[], Awaitable[None]]) -> None:
        running = self._running.get(duty)
        if running is not None:
            if not running.done():
                return
            running.result()  # raises a defect, which `_do` does not log
        self._running[duty] = asyncio.create_task(self._do(duty, do))

    async def _do(self, duty: str, do: Callable[[], Awaitable[None]]) -> None:
        """Do the duty, and let it rest in proportion to the time it took. Log a failure and try again next time."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            await do()
            rest = timedelta(seconds=SHARE * (loop.time() - began))
            if rest > timedelta(seconds=SHORTEST_STEP):
                await self._connection.fetch("hold_duty", duty, rest)
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
            log.warning("statistics_failed", duty=duty, error=type(error).__name__, detail=message(error))


def _next_part(mark: datetime, due: datetime, now: datetime) -> tuple[datetime, datetime]:
    """The next part to count, from the slot of the mark on."""
    since = slot_of(max(mark, now - FURTHEST), SHORTEST_STEP)
    return since, min(due, since + PART)


__all__ = ["StatisticsDuty"]
