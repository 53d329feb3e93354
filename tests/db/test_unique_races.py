"""Uniqueness while many enqueue at once, commit or roll back as it comes, and workers take what is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Rowlock, Settings, Unique
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

RACERS = 40
SETTLED = 30.0


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
async def racers(settings: Settings) -> AsyncIterator[list[Connection]]:
    opened = await asyncio.gather(*(asyncpg.connect(settings.database_url) for _ in range(RACERS)))
    yield opened
    for connection in opened:
        connection.terminate()


@pytest.mark.parametrize("seed, on_duplicate", [(1, "return"), (2, "replace")])
async def test_of_forty_connections_a_third_of_which_roll_back_one_job_has_the_key(
    seed: int, on_duplicate: str, racers: list[Connection], connection: Connection
) -> None:
    """200 rounds between the two seeds: two live holders never, and none only if nobody has committed."""
    rng = random.Random(seed)

    async def race(racer: Connection, key: str, *, commits: bool) -> UUID | None:
        transaction = racer.transaction()
        await transaction.start()
        told: UUID = await racer.fetchval(
            "SELECT rowlock.enqueue('send', unique_key => $1, on_duplicate => $2)", key, on_duplicate
        )
        await (transaction.commit() if commits else transaction.rollback())
        return told if commits else None

    empty = 0
    for number in range(100):
        key = f"k{number}"
        some = racers if number % 4 else rng.sample(racers, 2)  # so that now and then all of them roll back
        told = await asyncio.wait_for(
            asyncio.gather(*(race(racer, key, commits=rng.random() > 1 / 3) for racer in some)), SETTLED
        )
        committed = {job for job in told if job is not None}
        live = await connection.fetch("SELECT id FROM rowlock.job WHERE unique_key = $1", f"send:{key}")
        assert {row["id"] for row in live} == committed, "who committed was told of the one job that is there"
        assert len(live) == bool(committed)
        held = await connection.fetch("SELECT job_id FROM rowlock.unique_key WHERE key = $1", f"send:{key}")
        assert {row["job_id"] for row in held} == committed
        empty += not committed
    assert 0 < empty < 20, "the seed shows both"


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_key_until_the_start_has_one_waiting_job_which_starts_after_all_that_were_told_of_it(
    seed: int, app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    """Against a running worker: what was written before the enqueue is seen by a job."""
    seen: set[int] = set()
    rng = random.Random(seed)

    @app.task(unique=Unique("all", until="start"))
    async def index() -> None:
        async with app.database.connection() as reader:
            seen.update(row["n"] for row in await reader.fetch("SELECT n FROM change"))

    async def change(racer: Connection, n: int, pause: float, *, commits: bool) -> int | None:
        await racer.execute("INSERT INTO change VALUES ($1)", n)
        transaction = racer.transaction()
        await transaction.start()
        await index.using(connection=racer).enqueue()
        await asyncio.sleep(pause)
        await (transaction.commit() if commits else transaction.rollback())
        return n if commits else None

    async def observe() -> int:
        """The most jobs that were seen to wait at once."""
        most, observer = 0, await asyncpg.connect(app.settings.database_url)
        try:
            while not done.is_set():
                most = max(most, await observer.fetchval("SELECT count(*) FROM rowlock.job WHERE state = 'queued'"))
                await asyncio.sleep(0)
        finally:
            await observer.close()
        return most

    await connection.execute("CREATE TABLE change (n integer PRIMARY KEY)")
    done = asyncio.Event()
    observing = asyncio.create_task(observe())
    runs, committed = 0, set[int]()
    try:
        async with app.worker(concurrency=3):
            for number in range(30):
                some = rng.sample(racers, 8)
                told = await asyncio.wait_for(
                    asyncio.gather(
                        *(
                            change(racer, number * RACERS + n, rng.uniform(0, 0.004), commits=rng.random() > 1 / 3)
                            for n, racer in enumerate(some)
                        )
                    ),
                    SETTLED,
                )
                committed |= {n for n in told if n is not None}
                if number % 5 == 4:
                    await eventually(lambda: connection.fetchval("SELECT count(*) = 0 FROM rowlock.job"))
                    assert committed <= seen, "a job started after each of the enqueues"
        runs = await connection.fetchval("SELECT count(*) FROM rowlock.finished_job WHERE state = 'succeeded'")
    finally:
        done.set()
    assert await observing == 1
    assert runs > 6, "the worker was in between"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_bulk_calls_with_the_same_keys_end_without_a_deadlock_whatever_their_rules(
    seed: int, app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    rng = random.Random(seed)

    @app.task
    async def send(n: int) -> None: ...

    @app.task(name="a.send")
    async def other(n: int) -> None: ...

    rules: list[Callable[[str], Unique]] = [
        Unique,
        lambda key: Unique(key, until="start"),
        lambda key: Unique(key, until="start", on_duplicate="replace"),
        lambda key: Unique(key, on_duplicate="replace"),
        lambda key: Unique(key, across_tasks=True),
        lambda key: Unique(key, period=0.01),
    ]

    async def bulk(racer: Connection) -> None:
        for _ in range(6):
            keys = rng.sample([f"{letter}{n}" for letter in "aZä" for n in range(8)], 12)
            jobs = [rng.choice([send, other]).using(unique=rng.choice(rules)(key)).job(n) for n, key in enumerate(keys)]
            transaction = racer.transaction()
            await transaction.start()
            handles = await app.enqueue_many(jobs, connection=racer)
            assert len(handles) == len(jobs)
            await (transaction.commit() if rng.random() > 1 / 3 else transaction.rollback())

    async with app.worker(concurrency=5):
        await asyncio.wait_for(asyncio.gather(*(bulk(racer) for racer in racers[:8])), SETTLED)
    waiting = await connection.fetch(
        "SELECT unique_key FROM rowlock.job JOIN rowlock.unique_key ON job_id = id WHERE key <> unique_key"
    )
    assert waiting == []
    orphans = await connection.fetch(
        "SELECT key FROM rowlock.unique_key WHERE expires_at IS NULL AND NOT until_start "
        "AND NOT EXISTS (SELECT FROM rowlock.job WHERE id = job_id)"
    )
    assert orphans == [], "no key without its job"
