"""Partitions that are made late: whoever waits for the lock meanwhile finds and stores what is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import asyncpg
import pytest

from rowlock import Job, JobFilter, JobHandle, Rowlock, Settings
from rowlock.queue.read.reader import list_attempts
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Act: TypeAlias = Callable[[Rowlock, JobHandle[Any]], Awaitable[object]]

ARCHIVES: Final = ("finished_job", "attempt", "attempt_log")


async def found(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.get(handle.id)).is_finished


async def listed(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return handle.id in [job.id for job in await app.jobs.list()]


async def counted(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.overview()).dead_letters == 1


async def explained(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return len(await list_attempts(app.database, handle.id)) == 1


async def retried(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.jobs.retry(handle.id)).state == "queued"


async def retried_with_others(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.jobs.retry_many(JobFilter(state="failed"))).count == 1


async def discarded(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.jobs.discard(handle.id)).discarded_at is not None


async def run_again(app: Rowlock, handle: JobHandle[Any]) -> bool:
    return (await app.jobs.run_again(handle.id)).state == "queued"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
async def maker(direct_url: str) -> AsyncIterator[Connection]:
    """Who makes the partitions, and takes time to commit."""
    opened = await asyncpg.connect(direct_url)
    yield opened
    opened.terminate()


@pytest.fixture(autouse=True)
async def _no_worker_ran_for_days(connection: Connection) -> None:
    today: datetime = await connection.fetchval("SELECT clock_timestamp()")
    for archive in ARCHIVES:
        await connection.execute(f"DROP TABLE IF EXISTS rowlock.{archive}_{today.astimezone(UTC):%Y%m%d}")
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'partitions'")


async def make(maker: Connection) -> None:
    async def are_made() -> bool:
        await maker.execute("BEGIN")
        try:
            return bool(await maker.fetchval("SELECT rowlock.create_partitions(3) > 0"))
        except asyncpg.LockNotAvailableError:  # a machine with too much to do
            await maker.execute("ROLLBACK")
            return False

    await eventually(are_made)


async def somebody_waits(connection: Connection) -> None:
    async def is_waiting() -> bool:
        return bool(
            await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND locktype = 'relation' "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))"
            )
        )

    await eventually(is_waiting)


@pytest.mark.parametrize("act", [found, listed, counted, explained, retried, retried_with_others, discarded, run_again])
async def test_what_waits_for_a_partition_finds_the_jobs_that_move_into_it(
    act: Act, app: Rowlock, connection: Connection, maker: Connection
) -> None:
    @app.task(max_attempts=1)
    async def work() -> None:
        raise ValueError

    handle = await work.enqueue()
    await app.worker().drain()
    for archive in ARCHIVES[:2]:
        assert await connection.fetchval(f"SELECT count(*) FROM rowlock.{archive}_default") == 1
    await make(maker)
    asked = asyncio.ensure_future(act(app, handle))
    await somebody_waits(connection)
    await maker.execute("COMMIT")
    assert await asked


async def test_what_ends_while_its_partition_is_made_is_stored_in_it(
    app: Rowlock, connection: Connection, maker: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    await make(maker)
    cancelled = asyncio.create_task(app.jobs.cancel(handle.id))
    await somebody_waits(connection)
    await maker.execute("COMMIT")
    assert await cancelled == "cancelled"
    assert (await app.get(handle.id)).state == "cancelled"


async def test_a_job_s_own_transaction_succeeds_while_its_partition_is_made(
    app: Rowlock, connection: Connection, maker: Connection
) -> None:
    begun = asyncio.Event()

    @app.task(max_attempts=1)
    async def work(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute("SELECT")
            await make(maker)
            begun.set()

    handle = await work.enqueue()
    working = asyncio.create_task(app.worker().drain())
    await begun.wait()
    await somebody_waits(connection)
    await maker.execute("COMMIT")
    await working
    assert (await app.get(handle.id)).state == "succeeded"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job_default") == 0
