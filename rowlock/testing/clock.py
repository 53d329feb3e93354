"""Move time forward. The database's clock is the only clock, so the stored times move back instead.

The table `operation` records the distance, like every operator's act. Schedules add it to the clock, so that a tick at
eight in the morning stays at eight.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from rowlock.errors import InvalidOption, WrongState
from rowlock.queue.jobs import checks
from rowlock.queue.schedules.cron import Cron, Due, due
from rowlock.testing.bench import Bench
from rowlock.words import quoted
from rowlock.worker.ticker import Ticker

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.app import Rowlock

FARTHEST: Final = timedelta(days=36_500)
OLDEST: Final = timedelta(days=1)
"""A schema with an older job than this counts as one in use."""


async def move_time(app: Rowlock, by: timedelta | float) -> None:
    """Move all stored times, by a `timedelta` or by seconds, as if time had passed; `drain` then runs what is due.

    Future times come nearer: jobs that are delayed or wait for a retry, ticks of schedules, the end of expiries, of
    unique keys and of kept results. Past times move further back. The clocks of Python and of the database stay as
    they are.

    Refuses a schema that looks like one in use, with a live worker or a job that was enqueued more than a day ago:
    raises `WrongState`. Raises `InvalidOption` for a time that is not greater than zero.

    >>> await move_time(app, timedelta(hours=2))
    """
    moved = checks.period(by)
    if moved is None or moved > FARTHEST:
        raise InvalidOption(f"by must be seconds or a timedelta, above zero and at most 100 years; got {quoted(by)}.")
    async with Bench(app, runs_jobs=False) as bench:  # it stores the schedules of the code, so that they move as well
        await move(bench, moved)


async def move(bench: Bench, by: timedelta) -> None:
    """Move time for a bench that is the only worker."""
    details = msgspec.json.encode({"microseconds": by // timedelta(microseconds=1)}).decode()
    async with bench.transaction() as fetch:
        _refuse_use((await fetch("find_use", bench.id))[0], bench.schema)
        await fetch("move_time", by)
        await fetch("record_operation", "move_time", "schema", bench.schema, None, "python", details, None)
    bench.forget_positions()


async def fire_schedules(app: Rowlock) -> int:
    """Fire the due ticks of schedules whose tasks the application has; return the number of jobs that they enqueued.

    It works like a worker once a second: at most one job a tick, by the schedule's misfire and overlap rules. The jobs
    wait for `drain`.

    >>> await move_time(app, timedelta(days=1))
    >>> assert await fire_schedules(app) == 1
    """
    async with Bench(app, runs_jobs=False) as bench:
        ticker = _MovedTicker(bench, (await bench.fetch("time_moved"))[0]["moved"])
        fired = -1
        while ticker.fired > fired:
            fired = ticker.fired
            await ticker.fire_due()
        return ticker.fired


class _MovedTicker(Ticker):
    """Fires ticks by the moved time."""

    def __init__(self, bench: Bench, moved: timedelta) -> None:
        super().__init__(bench.connection, bench.tasks)
        self._moved = moved

    def _due(self, row: Record) -> Due:
        moved = self._moved
        found = due(Cron(row["cron"], row["timezone"]), row["next_run_at"] + moved, row["now"] + moved, row["misfire"])
        return replace(
            found,
            ticks=tuple(tick - moved for tick in found.ticks),
            next_run_at=None if found.next_run_at is None else found.next_run_at - moved,
        )


def _refuse_use(found: Record, schema: str) -> None:
    """Raise `WrongState` for a schema that is not a test's: never move the time of production jobs."""
    if found["worker"] is not None:
        raise WrongState(
            f"The schema {schema} must have no live worker for its time to move; got {found['worker']}. Stop the "
            "worker; or, if this is not a test's database, check which database the tests use.",
            state="in use",
        )
    if found["age"] is not None and found["age"] > OLDEST:
        raise WrongState(
            f"The schema {schema} must be a test's for its time to move; got a job that was enqueued "
            f"{found['age'].days} days ago. Give each test a database of its own (the fixture rowlock_database_url), "
            "or empty this one.",
            state="in use",
        )


__all__ = ["fire_schedules", "move", "move_time"]
