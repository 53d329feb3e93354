"""The duties: one worker at a time does what is due, and partitions are made ahead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.connect.statements import statement
from tests.db.dead_workers import die_with, is_rescued, with_busy_upkeep
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


DUTIES = ["rescue", "orphans", "partitions"]


@pytest.fixture
async def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return await with_busy_upkeep(database_url, monkeypatch)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
async def bystander(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application without tasks: its worker does the upkeep and takes no job."""
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_a_due_duty_is_claimed_by_one_of_many(settings: Settings, connection: Connection) -> None:
    await connection.execute("UPDATE rowlock.duty SET every = '1 hour', next_run_at = '-infinity'")
    others = [await asyncpg.connect(settings.database_url) for _ in range(8)]
    try:
        first = others[0].transaction()
        await first.start()
        held = await others[0].fetch(statement("claim_duties", "rowlock"), DUTIES[:1])
        told = await asyncio.gather(*(c.fetch(statement("claim_duties", "rowlock"), DUTIES) for c in others[1:]))
        await first.rollback()
        names = [row["name"] for rows in told for row in rows]
        assert len(names) == 2, "nobody waits for a duty that another one holds, and each goes to one"
        assert {held[0]["name"], *names} == set(DUTIES)
        again = await others[1].fetch(statement("claim_duties", "rowlock"), DUTIES)
        assert [row["name"] for row in again] == [held[0]["name"]], "what was rolled back is due again"
        assert await others[1].fetch(statement("claim_duties", "rowlock"), DUTIES) == []
    finally:
        for other in others:
            other.terminate()


async def test_a_duty_of_a_newer_release_is_left_to_the_newer_workers(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    await connection.execute("INSERT INTO rowlock.duty (name, every) VALUES ('of_the_future', '1 s')")
    handle = await work.enqueue()
    await die_with(connection, handle.id)
    async with bystander.worker():
        await eventually(lambda: is_rescued(connection, handle.id))
    due = await connection.fetchval("SELECT next_run_at = '-infinity' FROM rowlock.duty WHERE name = 'of_the_future'")
    assert due is True


async def test_the_partitions_of_the_coming_days_are_made_ahead(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    await connection.fetch("SELECT rowlock.create_partitions($1) AS made", 3)  # the schema may have been made yesterday
    today: date = (await connection.fetchval("SELECT clock_timestamp()")).astimezone(UTC).date()
    names = [
        f"{parent}_{today + timedelta(days=ahead):%Y%m%d}" for parent in ("finished_job", "attempt") for ahead in (2, 3)
    ]
    for name in names:
        await connection.execute(f"DROP TABLE rowlock.{name}")

    async def are_made() -> bool:
        query = "SELECT count(*) FROM unnest($1::text[]) AS name WHERE to_regclass('rowlock.' || name) IS NOT NULL"
        made: int = await connection.fetchval(query, names)
        return made == len(names)

    assert not await are_made()
    async with bystander.worker():
        await eventually(are_made)

    @app.task(max_attempts=1)
    async def work(*, fails: bool) -> None:
        if fails:
            raise ValueError

    await work.enqueue(fails=True)
    await work.enqueue(fails=False)
    await app.worker().drain()
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job_default") == 0
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt_default") == 0


async def test_making_partitions_behind_a_long_read_gives_way_to_the_readers_that_follow(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    await connection.fetch("SELECT rowlock.create_partitions($1) AS made", 3)  # the schema may have been made yesterday
    await connection.execute(
        "DO $$ BEGIN EXECUTE 'DROP TABLE rowlock.finished_job_' "
        "|| to_char((clock_timestamp() AT TIME ZONE 'UTC')::date + 3, 'YYYYMMDD'); END $$"
    )
    maker = await asyncpg.connect(app.settings.database_url)
    try:
        async with connection.transaction():
            await connection.fetch("SELECT count(*) FROM rowlock.jobs")  # a backup, a report
            making = asyncio.create_task(maker.fetch("SELECT rowlock.create_partitions($1) AS made", 3))
            with pytest.raises(asyncpg.LockNotAvailableError):
                await asyncio.wait_for(making, 20)
            assert (await asyncio.wait_for(handle.get(), 10)).state == "queued"
        assert (await maker.fetch("SELECT rowlock.create_partitions($1) AS made", 3))[0]["made"] == 1
    finally:
        maker.terminate()
