"""What is cancelled in the middle of something leaves no connection behind, and none in the middle of something."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

MOST = 10 + 1
"""The application's pool, and the connection on which it hears of results."""


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))
    async with Rowlock(settings=settings) as opened:

        @opened.task
        async def greet(name: str) -> str:
            return f"Hello, {name}"

        @opened.task
        async def pay(job: Job) -> None:
            async with job.transaction() as own:
                for _ in range(20):
                    await own.fetchval("SELECT 1")

        yield opened


async def enqueue(app: Rowlock) -> object:
    return await app.enqueue("greet", {"name": "Ada"})


async def enqueue_many(app: Rowlock) -> object:
    return await app.enqueue_many([app.tasks["greet"].using(unique=str(n)).job("Ada") for n in range(3)])


async def get(app: Rowlock) -> object:
    return await (await app.enqueue("greet", {"name": "Ada"})).get()


async def wait_for_a_result(app: Rowlock) -> object:
    return await (await app.enqueue("greet", {"name": "Ada"})).result(timeout=5)


async def act(app: Rowlock) -> object:
    handle = await app.enqueue("greet", {"name": "Ada"})
    return await app.jobs.cancel(handle.id)


WAYS: list[Callable[[Rowlock], Awaitable[object]]] = [enqueue, enqueue_many, get, wait_for_a_result, act]


async def others(connection: Connection, state: str = "%") -> int:
    found: int = await connection.fetchval(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE 'rowlock %' AND state LIKE $1",
        state,
    )
    return found


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_whatever_an_application_was_doing_when_it_was_cancelled(
    seed: int, app: Rowlock, connection: Connection
) -> None:
    chance = random.Random(seed)

    async def cancelled() -> None:
        task = asyncio.ensure_future(chance.choice(WAYS)(app))
        for _ in range(chance.choice([1, 3, 10, 30, 100])):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for _ in range(15):
        await asyncio.gather(*(cancelled() for _ in range(12)))
    async with asyncio.timeout(5), AsyncExitStack() as stack:
        for own in [await stack.enter_async_context(app.database.connection()) for _ in range(10)]:
            assert not own.is_in_transaction()
            assert await own.fetchval("SELECT 1") == 1

    async def is_in_order() -> bool:
        return await others(connection) <= MOST and await others(connection, "%in transaction%") == 0

    await eventually(is_in_order)
    await app.close()

    async def are_gone() -> bool:
        return await others(connection) == 0

    await eventually(are_gone)


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_handlers_that_are_cancelled_inside_of_their_transactions(app: Rowlock, connection: Connection) -> None:
    chance = random.Random(1)
    async with app.worker(concurrency=12):
        handles = await app.enqueue_many([app.tasks["pay"].job() for _ in range(60)])

        async def cancelled(n: int) -> None:
            for _ in range(chance.randrange(n * 10 + 1)):
                await asyncio.sleep(0)
            with suppress(Exception):  # it has finished
                await app.jobs.cancel(handles[n].id)

        await asyncio.gather(*(cancelled(n) for n in range(60)))

        async def is_over() -> bool:
            return not await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.job)")

        await eventually(is_over)
        states = {row["state"] for row in await connection.fetch("SELECT state FROM rowlock.finished_job")}
        assert states <= {"succeeded", "cancelled"}

        async def is_in_order() -> bool:  # its duties are in transactions of their own, for a moment
            return await others(connection, "%in transaction%") == 0

        await eventually(is_in_order)
    await app.close()

    async def are_gone() -> bool:
        return await others(connection) == 0

    await eventually(are_gone)
