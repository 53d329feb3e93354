"""Attention: cancels, pauses, scalings and ticks wait for no duty, however long it takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.connect.sessions import ControlConnection
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


class Standstill:
    """A statement of a duty that does not come back until it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.is_reached, self.goes_on = asyncio.Event(), asyncio.Event()
        run = ControlConnection._run

        async def stand_still(
            self_: ControlConnection, connection: Connection, asked: str, *parameters: object
        ) -> list[asyncpg.Record]:
            if asked == name:
                self.is_reached.set()
                await self.goes_on.wait()
            return await run(self_, connection, asked, *parameters)

        monkeypatch.setattr(ControlConnection, "_run", stand_still)


@pytest.fixture
async def standstill(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Standstill]:
    made = Standstill(monkeypatch, "end_overdue")
    await connection.execute("UPDATE rowlock.duty SET next_run_at = '-infinity' WHERE name = 'overdue'")
    yield made
    made.goes_on.set()


async def test_orders_and_cancels_are_heard_while_a_duty_stands_still(app: Rowlock, standstill: Standstill) -> None:
    began, cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def sleep() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with app.worker(concurrency=3) as worker:
        await standstill.is_reached.wait()
        job = await sleep.enqueue()
        await began.wait()
        await app.workers.scale(worker.id, 2)
        await eventually(lambda: worker._shift.slots.concurrency == 2)
        await app.workers.quiet(worker.id)
        await eventually(lambda: worker.is_quiet)
        assert await app.jobs.cancel(job.id) == "requested"
        await asyncio.wait_for(cancelled.wait(), 10)
        assert not standstill.goes_on.is_set()
        standstill.goes_on.set()


async def test_a_tick_fires_while_a_duty_stands_still(app: Rowlock, standstill: Standstill) -> None:
    fired = asyncio.Event()

    @app.task
    async def tick() -> None:
        fired.set()

    app.schedule(tick, "* * * * * *", name="often")
    async with app.worker():
        await standstill.is_reached.wait()
        fired.clear()
        await asyncio.wait_for(fired.wait(), 10)
        standstill.goes_on.set()


async def test_a_locked_table_keeps_no_other_part_of_the_attention_waiting(
    app: Rowlock, connection: Connection, direct_url: str
) -> None:
    @app.task
    async def noop() -> None: ...

    other = await asyncpg.connect(direct_url)
    try:
        with capture_logs() as logs:
            async with app.worker() as worker:
                await other.execute("BEGIN; LOCK TABLE rowlock.job IN ACCESS EXCLUSIVE MODE")  # no cancel can be read
                await eventually(lambda: [entry for entry in logs if entry["event"] == "attention_failed"])
                await connection.execute("UPDATE rowlock.worker SET concurrency = 2 WHERE id = $1", worker.id)
                await eventually(lambda: worker._shift.slots.concurrency == 2)
                await other.execute("ROLLBACK")
    finally:
        other.terminate()
