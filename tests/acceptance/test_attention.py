"""A running job is cancelled while 100,000 others expire: its worker hears of it in the middle of that duty."""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.duties import overdue
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

JOBS = 100_000
MOST_ROUNDS = 20
"""Of the 200 that the duty takes, those that may pass between the cancel and the handler's end."""

EXPIRED = """
    INSERT INTO rowlock.job (id, task, queue, expires_at, ends_at)
    SELECT rowlock.uuid7(), 'noop', 'elsewhere', now() - interval '1 second', now() - interval '1 second'
      FROM generate_series(1, $1)
"""


async def test_a_cancel_is_heard_within_a_few_rounds_of_the_duty_that_ends_100_000_jobs(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = 0
    run = ControlConnection._run

    async def count(self: ControlConnection, link: Connection, name: str, *parameters: object) -> list[asyncpg.Record]:
        nonlocal rounds
        rounds += name == "end_overdue"
        return await run(self, link, name, *parameters)

    monkeypatch.setattr(ControlConnection, "_run", count)
    await connection.execute(EXPIRED, JOBS)
    began, stopped_at = asyncio.Event(), asyncio.Future[int]()
    async with Rowlock(settings=settings) as app:

        @app.task
        async def sleep() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                stopped_at.set_result(rounds)

        job = await sleep.enqueue()
        async with app.worker():
            await began.wait()
            await eventually(lambda: rounds > 5, timeout=30)
            asked_at = rounds
            assert await app.jobs.cancel(job.id) == "requested"
            assert await stopped_at - asked_at <= MOST_ROUNDS
            assert rounds < JOBS // overdue.BATCH, "the duty was not done yet"
