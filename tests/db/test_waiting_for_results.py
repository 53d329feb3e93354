"""Waiting for a result while the database is away."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, DrainTimeout, InvalidOption, Job, ResultTimeout, Rowlock, Settings
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.read.handle import wait_until_finished
from rowlock.queue.read.reader import get_job
from tests.db.claimants import hold
from tests.db.links import Link, linked
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Server


@pytest.fixture
async def link(server: Server, database_url: str) -> AsyncIterator[Link]:
    async with linked(server, database_url) as link:
        yield link


@pytest.fixture
async def far(settings: Settings, link: Link) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=replace(settings, database_url=link.url)) as app:
        yield app


@pytest.mark.parametrize("timeout", [math.nan, math.inf, "5"])
async def test_a_wait_for_what_is_no_time_is_refused(timeout: float, settings: Settings) -> None:
    async with Rowlock(settings=settings) as app:
        with pytest.raises(InvalidOption, match=r"timeout must be .* at most a hundred years; got"):
            await app.handle(UUID(int=1)).result(timeout)


@pytest.mark.parametrize("listens", [True, False], ids=["listening", "polling"])
async def test_a_wait_for_a_result_outlives_an_outage_of_the_database(
    listens: bool, settings: Settings, link: Link, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    brief = replace(settings, database_url=link.url, listen=listens, poll_interval=timedelta(seconds=0.05))
    async with Rowlock(settings=brief) as app:

        @app.task
        async def work() -> int:
            return 7

        handle = await work.enqueue()
        waiting = asyncio.create_task(handle.result(timeout=30))
        await eventually(lambda: connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.waiter)") if listens else True)
        await link.close()
        with pytest.raises((DatabaseUnavailable, *CONNECTION_LOST)):  # so it is away
            await handle.get()
        assert not waiting.done()
        await link.open()
        await app.worker().drain()
        assert await waiting == 7


async def test_a_drain_outlives_an_outage_of_the_database(
    far: Rowlock, link: Link, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, state, attempt, worker) "
        "VALUES (rowlock.uuid7(), 'work', 'running', 1, rowlock.uuid7())"
    )
    await hold(connection)
    with capture_logs() as logs:
        draining = asyncio.create_task(far.queues.drain("default", timeout=30))
        await eventually(lambda: connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.queue)"))
        await eventually(lambda: connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.operation)"))
        await link.close()
        await eventually(lambda: [entry for entry in logs if entry["event"] == "drain_waits_for_database"])
    assert not draining.done()
    await connection.execute("DELETE FROM rowlock.job")
    await link.open()
    assert (await draining).paused_at is not None


async def test_a_drain_that_the_database_does_not_answer_ends_with_its_timeout(
    far: Rowlock, link: Link, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, state, attempt, worker) "
        "VALUES (rowlock.uuid7(), 'work', 'running', 1, rowlock.uuid7())"
    )
    await hold(connection)
    draining = asyncio.create_task(far.queues.drain("default", timeout=2))
    await eventually(lambda: connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.operation)"))
    await link.close()
    with pytest.raises(DrainTimeout, match="did not answer"):
        await draining


async def test_a_wait_that_begins_while_the_database_is_away_ends_within_its_timeout(far: Rowlock, link: Link) -> None:
    @far.task
    async def work() -> None: ...

    handle = await work.enqueue()
    await link.close()
    with pytest.raises(ResultTimeout, match="did not answer"):
        await handle.result(timeout=0.3)
    with pytest.raises(DatabaseUnavailable):
        await wait_until_finished(far.database, handle.id, 0)


async def test_a_database_that_is_back_just_before_the_time_is_over_is_asked(
    far: Rowlock, link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    @far.task
    async def work() -> int:
        return 7

    handle = await work.enqueue()
    await far.worker().drain()
    await link.close()
    waiting = asyncio.create_task(handle.result(timeout=2.0))
    looks: list[float] = []

    async def count(database: Database, job_id: UUID | str) -> Job:
        looks.append(asyncio.get_running_loop().time())
        return await get_job(database, job_id)

    monkeypatch.setattr("rowlock.queue.read.handle.get_job", count)  # at named points
    began = asyncio.get_running_loop().time()
    await eventually(lambda: looks and looks[-1] - began > 1.0)  # the next pause alone would outlast the time
    await link.open()
    assert await waiting == 7


@pytest.mark.parametrize("table", ["job", "waiter"])
async def test_a_wait_ends_in_time_although_the_database_does_not_answer(
    table: str, settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> None: ...

        handle = await work.enqueue()
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE rowlock.{table} IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(handle.result(timeout=0.5))
            done, _ = await asyncio.wait({waiting}, timeout=5)  # the lock is held for longer than a query may take
            assert done
            with pytest.raises(ResultTimeout):
                await waiting


async def test_a_refused_login_is_not_waited_for(settings: Settings) -> None:
    assert settings.database_url is not None
    elsewhere = re.sub(r"/test_\d+", "/there_is_none", settings.database_url)
    assert elsewhere != settings.database_url
    async with Rowlock(settings=replace(settings, database_url=elsewhere)) as app:
        with pytest.raises(DatabaseUnavailable):
            await wait_until_finished(app.database, "01900000-0000-7000-8000-000000000000", None)
