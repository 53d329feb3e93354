"""The duties of statistics: count what ended since the last time, and write down how long the queues are."""

from __future__ import annotations

import asyncio
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
"""How much of the archive is counted in one transaction, after a pause."""
FURTHEST: Final = timedelta(days=1)
"""How far back it begins after a pause. What ended before stays uncounted."""
BEFORE_A_STEP: Final = timedelta(hours=1)
"""How far back it begins when the server's clock has gone back. It may have rested so long since then."""
AGAIN_AFTER: Final = timedelta(minutes=2)
"""Everything is counted a second time so much later: a finish may commit long after its time was taken."""
MARKS: Final = 2
SHARE: Final = 50
"""Each duty rests so many times as long as it took: it takes a fiftieth of a connection's time at most."""
LONGEST: Final = 120.0

BY_TIME: Final = {
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
}
"""What finds a window of time by BRIN even where the planner believes that today's partition is empty."""
BY_INDEX: Final = PLANNER_SETTINGS | {"max_parallel_workers_per_gather": "0"}


class StatisticsDuty:
    """Counts beside the worker's other duties, which must not wait for it."""

    def __init__(self, connection: ControlConnection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._running: dict[str, asyncio.Task[None]] = {}

    async def begin_counting(self) -> None:
        """Begin to count what ended, unless that has begun already."""
        self._begin("statistics", self.count)

    async def begin_sampling(self) -> None:
        """Begin to look how long the queues are, unless that has begun already."""
        self._begin("backlog", self.sample)

    async def stop(self) -> None:
        """Stop in the middle: what was not done is done another time."""
        for running in self._running.values():
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running

    async def count(self) -> None:
        """Count what ended since the last time, and once more what ended two minutes ago; forget what is old."""
        while not await self._count_part():
            pass
        steps, kept = list(STEPS), list(STEPS.values())
        async with self._database.transaction(plan=BY_INDEX, timeout=LONGEST) as transaction:
            await transaction.run("forget_statistics", steps, kept)

    async def sample(self) -> None:
        """Write down how many live jobs each queue has."""
        async with self._database.transaction(plan=BY_INDEX, timeout=LONGEST) as transaction:
            await transaction.run("sample_backlog", list(STEPS)[1:], MOST_SAMPLED)

    async def _count_part(self) -> bool:
        """Count one part of what is due, in one transaction: whether that was all, or is somebody else's to do."""
        async with self._database.transaction(plan=BY_TIME, timeout=LONGEST) as transaction:
            rows = await transaction.run("lock_statistics")
            if len(rows) < MARKS:
                return True
            now: datetime = rows[0]["now"]
            marks = {row["name"]: row["until"] for row in rows}
            if any(mark > now for mark in marks.values()):
                # The server's clock has gone back, and nobody knows when: what was counted already keeps its counts.
                await transaction.run("set_back_statistics", slot_of(now - BEFORE_A_STEP, SHORTEST_STEP))
                return False
            due = {"counted": now, "recounted": slot_of(now - AGAIN_AFTER, SHORTEST_STEP)}
            spans = {name: _next_part(marks[name], due[name], now) for name in due if marks[name] < due[name]}
            if not spans:
                return True
            for since, until in set(spans.values()):
                await transaction.run("count_finished", SHORTEST_STEP, since, until, MOST_NAMED)
            since, until = min(begin for begin, _ in spans.values()), max(end for _, end in spans.values())
            for shorter, longer in pairwise(STEPS):
                await transaction.run("add_up_statistics", longer, shorter, slot_of(since, longer), until, MOST_NAMED)
            await transaction.run("move_statistics", list(spans), [until for _, until in spans.values()])
        return all(until == due[name] for name, (_, until) in spans.items())

    def _begin(self, duty: str, do: Callable[[], Awaitable[None]]) -> None:
        running = self._running.get(duty)
        if running is not None:
            if not running.done():
                return
            running.result()  # what it raised all the same is a defect, and must not go unseen
        self._running[duty] = asyncio.create_task(self._do(duty, do))

    async def _do(self, duty: str, do: Callable[[], Awaitable[None]]) -> None:
        """Do it, and let it rest the longer, the longer it took. What fails is logged, and tried again next time."""
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
