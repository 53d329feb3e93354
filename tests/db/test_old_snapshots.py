"""Callers whose transaction has an old snapshot: no job is taken for waiting that has started since."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.jobs.unique import Unique
from tests.db.claimants import CLAIMANT, register

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

ENQUEUE = "SELECT rowlock.enqueue('noop', unique_key => 'k', unique_until => 'start')"


@pytest.fixture
async def caller(settings: Settings) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(settings.database_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
@pytest.mark.parametrize("holder", ["has ended", "has started"])
async def test_a_key_until_the_start_is_not_refused_for_a_holder_that_started_since(
    isolation: str, holder: str, caller: Connection, connection: Connection
) -> None:
    first = await connection.fetchval(ENQUEUE)
    await register(connection)
    transaction = caller.transaction(isolation=isolation)  # type: ignore[arg-type]  # one of them
    await transaction.start()
    assert await caller.fetchval("SELECT count(*) FROM rowlock.job") == 1  # the snapshot
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now()", CLAIMANT
    )
    if holder == "has ended":
        await connection.execute("DELETE FROM rowlock.job")
    with pytest.raises(asyncpg.SerializationError):
        await caller.fetchval(ENQUEUE)
    await transaction.rollback()
    async with caller.transaction(isolation=isolation):  # type: ignore[arg-type]  # one of them
        assert await caller.fetchval(ENQUEUE) != first, "a new job"


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_key_until_the_start_is_refused_for_a_holder_that_waits(
    isolation: str, caller: Connection, connection: Connection
) -> None:
    first = await connection.fetchval(ENQUEUE)
    async with caller.transaction(isolation=isolation):  # type: ignore[arg-type]  # one of them
        assert await caller.fetchval(ENQUEUE) == first
        other = await connection.fetchval("SELECT id FROM rowlock.job FOR UPDATE NOWAIT")
        assert other == first, "the holder is not locked: a claim can have it"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 1


@pytest.mark.parametrize("isolation", ["read_committed", "repeatable_read", "serializable"])
async def test_a_key_of_a_job_whose_time_is_over_is_free_or_cannot_be_told(
    isolation: str, caller: Connection, connection: Connection
) -> None:
    enqueue = "SELECT rowlock.enqueue('noop', unique_key => 'k', expires_at => clock_timestamp() + $1::interval)"
    first = await connection.fetchval(enqueue, timedelta(hours=1))
    await connection.execute("UPDATE rowlock.job SET ends_at = now()")
    async with caller.transaction(isolation=isolation):  # type: ignore[arg-type]  # one of them
        assert await caller.fetchval(enqueue, timedelta(hours=1)) != first

    await connection.execute("UPDATE rowlock.job SET ends_at = now()")
    second = await connection.fetchval("SELECT job_id FROM rowlock.unique_key")
    await register(connection)
    transaction = caller.transaction(isolation=isolation)  # type: ignore[arg-type]  # one of them
    await transaction.start()
    assert await caller.fetchval("SELECT count(*) FROM rowlock.job") == 2  # the snapshot
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now() WHERE id = $2",
        CLAIMANT,
        second,
    )
    if isolation == "read_committed":
        assert await caller.fetchval(enqueue, timedelta(hours=1)) == second
    else:
        with pytest.raises(asyncpg.SerializationError):
            await caller.fetchval(enqueue, timedelta(hours=1))
    await transaction.rollback()


async def test_many_jobs_in_an_old_snapshot_are_decided_in_the_same_way(
    settings: Settings, caller: Connection, connection: Connection
) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task(name="noop")
        async def noop() -> None: ...

        await connection.fetchval(ENQUEUE)
        transaction = caller.transaction(isolation="repeatable_read")
        await transaction.start()
        await caller.fetchval("SELECT count(*) FROM rowlock.job")
        await connection.execute("DELETE FROM rowlock.job")
        with pytest.raises(asyncpg.SerializationError):
            await app.enqueue_many([noop.using(unique=Unique("k", until="start")).job()], connection=caller)
        await transaction.rollback()
