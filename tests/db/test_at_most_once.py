"""`max_crashes=1`: a job that has begun does not begin again, whatever becomes of its worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import InvalidOption, JobFailed, Rowlock, Settings
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

DIE = "UPDATE rowlock.worker SET expires_at = clock_timestamp() - interval '1 s'"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    made = replace(settings, poll_interval=timedelta(milliseconds=50), grace_period=timedelta(0))
    async with Rowlock(settings=made) as opened:
        yield opened


@pytest.mark.parametrize("neighbours", [0, 1])
async def test_a_job_whose_worker_died_fails_at_its_task_s_own_limit(
    neighbours: int, app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Semaphore(0)
    done = asyncio.Event()

    @app.task(max_attempts=1, max_crashes=1)
    async def charge() -> None:
        began.release()
        await asyncio.Event().wait()

    @app.task
    async def neighbour() -> None:
        began.release()
        await done.wait()

    async with app.worker():
        handle = await charge.enqueue()
        beside = [await neighbour.enqueue() for _ in range(neighbours)]
        for _ in range(1 + neighbours):
            await began.acquire()
        await connection.execute(DIE)
        with pytest.raises(JobFailed, match="quarantined: 1 workers"):
            await handle.result(timeout=30)
        done.set()
        for other in beside:
            await other.result(timeout=30)
    assert (await app.get(handle.id)).attempt == 1


async def test_a_job_that_a_stopping_worker_interrupts_fails(app: Rowlock) -> None:
    began = asyncio.Event()

    @app.task(max_attempts=1, max_crashes=1)
    async def charge() -> None:
        began.set()
        await asyncio.Event().wait()

    async with app.worker():
        handle = await charge.enqueue()
        await began.wait()
    found = await app.get(handle.id)
    assert (found.state, found.attempt) == ("failed", 1)
    assert "its worker stopped before it was done" in str(found.error)


async def test_a_task_may_allow_more_crashes_than_its_worker(app: Rowlock, connection: Connection) -> None:
    @app.task(max_crashes=5)
    async def stubborn() -> None: ...

    async with app.worker():
        await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'suspects'")
    handle = await stubborn.enqueue()
    await connection.execute(
        "UPDATE rowlock.job"
        " SET state = 'running', attempt = 4, crashes = 3, worker = gen_random_uuid(), started_at = now()"
    )
    await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = 'orphans'")
    async with app.worker():
        await eventually(lambda: connection.fetchval("SELECT crashes = 4 FROM rowlock.jobs"), timeout=30)
        await handle.result(timeout=30)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, "1"])
def test_a_limit_that_makes_no_sense_is_refused(value: object) -> None:
    with pytest.raises(InvalidOption, match=r"max_crashes must be a whole number of at least 1 .*; got"):
        Rowlock("postgresql://nowhere").task(name="task", max_crashes=value)(lambda: None)  # type: ignore[call-overload]  # the point
