"""The ticker: fire the due ticks of the schedules whose tasks this worker has. There is no leader."""

from __future__ import annotations

import asyncio
import math
import random
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from rowlock import logs
from rowlock.errors import ConfigurationError, RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, is_away, message
from rowlock.queue.enqueue import columns
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.schedules.cron import Cron, Due, due

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from asyncpg import Record

    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.queue.enqueue.task import Task
    from rowlock.queue.schedules.schedule import Declared

log = logs.get_logger("rowlock.worker")

LOOK_EVERY: Final = 1.0
"""The first pause after a failure, in seconds."""
LOOK_AHEAD: Final = timedelta(seconds=3)
"""How early a tick is noticed: it is waited for then."""
SPREAD: Final = 0.02
"""Workers that wait for the same tick wake up spread over this many seconds: most then find it fired."""
LOST_PAUSE: Final = 0.1
PAUSE_MOST: Final = 5.0
"""The longest pause between two tries while the database does not answer, in seconds."""
BATCH: Final = 100
TRY_BROKEN_MOST: Final = 60.0
"""The longest pause between two tries of a schedule that fails to fire, in seconds; the first is `LOOK_EVERY`."""


class _Broken(NamedTuple):
    """A schedule that failed to fire: the version and the error that were logged, and the time of the next try."""

    logged: tuple[datetime, str]
    pause: float
    again_at: float


class Ticker:
    """Fire ticks. `fired` counts the jobs that this made."""

    def __init__(self, connection: ControlConnection, tasks: Mapping[str, Task[..., Any]]) -> None:
        self._connection = connection
        self._tasks = tasks
        self.tasks = list(tasks)
        """The tasks whose schedules it fires."""
        self._broken: dict[str, _Broken] = {}
        self._noticed = asyncio.Event()
        self.fired = 0

    async def declare(self, declared: Sequence[Declared], connection: ControlConnection) -> None:
        """Store the schedules that the code declares, and mark those that it does not declare any more."""
        if declared:
            await self._write(declared, connection)
        names = [one.name for one in declared]
        for row in await connection.fetch("mark_undeclared", names, list(self._tasks)):
            log.warning(
                "schedule_is_not_declared",
                schedule=row["name"],
                hint="the code no longer declares it, but it still fires: remove it with rowlock schedules prune",
            )

    async def _write(self, declared: Sequence[Declared], connection: ControlConnection) -> None:
        now: datetime = (await connection.fetch("moment"))[0]["now"]
        columns = zip(
            *(
                (*one.parameters(), one.schedule.times.next(now), one.declaration())
                for one in sorted(declared, key=lambda one: one.name)
            ),
            strict=True,
        )
        for row in await connection.fetch("declare_schedules", *map(list, columns)):
            log.warning("schedule_name_taken", schedule=row["name"], hint="a user created it, so it is not overwritten")

    def notice(self) -> None:
        """Note that a tick is due within `LOOK_AHEAD`."""
        self._noticed.set()

    async def run(self) -> None:
        """Look when a tick is noticed, and whenever one comes due, until cancelled. Log a failure and try again."""
        longest = LOOK_EVERY
        while True:
            self._noticed.clear()
            try:
                pause = await self.fire_due()
                longest = LOOK_EVERY
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                log.warning("ticks_not_fired", error=type(error).__name__, detail=message(error))
                pause = longest * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
                longest = min(longest * 2, PAUSE_MOST)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if pause == math.inf else pause):
                    await self._noticed.wait()

    async def fire_due(self) -> float:
        """Fire the due ticks. Return the seconds until the next look; infinite if none comes soon.

        A schedule that fails does not stop the others. Its failure is logged once until its row or its error changes,
        and the schedule is left out for a while. An error that means that the database is away or not migrated ends
        the round.
        """
        now = asyncio.get_running_loop().time()
        broken = sorted(name for name, one in self._broken.items() if one.again_at > now)
        rows = await self._connection.fetch("due_schedules", self.tasks, broken, LOOK_AHEAD, BATCH)
        is_due = [row for row in rows if row["next_run_at"] <= row["now"]]
        random.shuffle(is_due)  # so that workers begin with different schedules
        has_fired = False
        for row in is_due:
            try:
                has_fired |= await self._fire(row)
                self._broken.pop(row["name"], None)
            except Exception as error:  # no error may stop the other schedules  # seam: broken tick
                if is_away(error) or isinstance(error, ConfigurationError):
                    raise
                self._leave_out(row, error)
        spread = random.uniform(0, SPREAD)  # noqa: S311  # jitter
        if is_due:
            return spread if has_fired else LOST_PAUSE + spread
        if rows:
            left: timedelta = rows[0]["next_run_at"] - rows[0]["now"]
            return left.total_seconds() + spread
        now = asyncio.get_running_loop().time()
        self._broken = {name: one for name, one in self._broken.items() if one.again_at > now}  # the others are gone
        return min((one.again_at for one in self._broken.values()), default=math.inf) - now

    async def _fire(self, row: Record) -> bool:
        """Fire a schedule's ticks. Return whether this worker fired them."""
        options, found = self._tasks[row["task"]].options, self._due(row)
        fired = await self._connection.fetch(
            "fire_ticks",
            row["name"],
            row["next_run_at"],
            row["updated_at"],
            row["last_job_id"],
            found.ticks,
            [uuid7() for _ in found.ticks],
            found.next_run_at,
            *columns.of_task(options),
        )
        if not fired:
            return False  # another worker fires them, or the schedule was changed meanwhile
        fields: dict[str, Any] = {"schedule": row["name"], "jobs": fired[0]["jobs"]}
        if not fired[0]["jobs"]:
            log.info("tick_skipped", reason="overlap" if found.ticks else "misfire", **fields)
            return True
        self.fired += fired[0]["jobs"]
        log.info("tick_fired", tick_at=found.ticks[-1].isoformat(), **fields)
        if found.is_cut:
            log.warning("ticks_left", schedule=row["name"], hint="the rest fires in the next rounds")
        await self._connection.fetch("wake", [fired[0]["queue"]])
        return True

    def _leave_out(self, row: Record, error: Exception) -> None:
        """Leave out a schedule that failed, each time for twice as long. Log the failure if it is a new one."""
        name, failure = row["name"], (row["updated_at"], f"{type(error).__name__}: {message(error)}")
        before = self._broken.get(name)
        if before is None or before.logged != failure:
            log.warning("schedule_broken", schedule=name, error=type(error).__name__, detail=message(error))
        pause = LOOK_EVERY if before is None else min(2 * before.pause, TRY_BROKEN_MOST)
        self._broken[name] = _Broken(failure, pause, asyncio.get_running_loop().time() + pause)

    def _due(self, row: Record) -> Due:
        return due(Cron(row["cron"], row["timezone"]), row["next_run_at"], row["now"], row["misfire"])
