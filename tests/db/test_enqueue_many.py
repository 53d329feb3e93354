"""Enqueuing many jobs: all of them are stored, with the same rows as one by one, or none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import InvalidOption, Rowlock, Settings
from rowlock.queue.connect.drivers import or_own
from tests.db.rows import clock, count, row_of, without

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


SOON = timedelta(seconds=30)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture(params=["copy", "insert"])
def way(request: pytest.FixtureRequest) -> str:
    """By COPY in a transaction of its own, or by INSERT in the caller's."""
    found: str = request.param
    return found


async def enqueue_many(app: Rowlock, jobs: list[Any], way: str, connection: Connection) -> list[Any]:
    if way == "copy":
        return await app.enqueue_many(jobs)
    async with connection.transaction():
        return await app.enqueue_many(jobs, connection=connection)


async def test_the_handles_of_many_jobs_are_in_the_order_of_the_jobs(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def number(n: int) -> None: ...

    @app.task(queue="other", priority=1)
    async def name(text: str) -> None: ...

    jobs: list[Any] = [number.job(n) if n % 2 else name.job(str(n)) for n in range(20)]
    handles = await enqueue_many(app, jobs, way, connection)
    assert [handle.id for handle in handles] == [job.id for job in jobs]
    assert [handle.task for handle in handles] == ["name", "number"] * 10
    for n, handle in enumerate(handles):
        row = await row_of(connection, handle.id)
        assert json.loads(row["args"]) == ({"n": n} if n % 2 else {"text": str(n)})
        assert (row["queue"], row["priority"]) == (("default", 5) if n % 2 else ("other", 1))
    assert not any(handle.is_duplicate for handle in handles)


async def test_no_jobs_are_no_handles(way: str, app: Rowlock, connection: Connection) -> None:
    assert await enqueue_many(app, [], way, connection) == []


async def test_many_jobs_are_stored_with_the_same_rows_as_one_by_one(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task(queue="email", max_attempts=3)
    async def send(n: int) -> None: ...

    run_at = datetime(2999, 1, 1, tzinfo=UTC)
    options: list[dict[str, Any]] = [
        {},
        {"queue": "other"},
        {"priority": 0},
        {"delay": 60},
        {"run_at": run_at},
        {"timeout": 1.5},
        {"max_attempts": 1},
        {"unique": "k{}"},
        {"unique": "all{}", "queue": "q", "priority": 9, "delay": 60.5, "timeout": 2, "max_attempts": 7},
    ]

    def named(given: dict[str, Any], suffix: str) -> dict[str, Any]:
        return {name: value.format(suffix) if name == "unique" else value for name, value in given.items()}

    singles = [await send.using(**named(given, "")).enqueue(n) for n, given in enumerate(options)]
    many = await enqueue_many(
        app, [send.using(**named(given, "-")).job(n) for n, given in enumerate(options)], way, connection
    )
    for single, handle in zip(singles, many, strict=True):
        one, other = await row_of(connection, single.id), await row_of(connection, handle.id)
        assert abs(one["run_at"] - other["run_at"]) < SOON
        assert (one["unique_key"] is None) == (other["unique_key"] is None)
        if one["unique_key"] is not None:
            assert other["unique_key"] == one["unique_key"] + "-"
        its_own = ("id", "created_at", "run_at", "unique_key")
        assert without(one, *its_own) == without(other, *its_own)
    keys = await connection.fetch("SELECT key, job_id FROM rowlock.unique_key")
    assert {row["key"]: row["job_id"] for row in keys} == {
        "send:k": singles[7].id,
        "send:k-": many[7].id,
        "send:all": singles[8].id,
        "send:all-": many[8].id,
    }


async def test_many_jobs_are_due_no_earlier_than_the_clock_once_their_transaction_has_its_id(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    before = await clock(connection)
    async with connection.transaction():  # began before, so that now() would be earlier
        began: datetime = await connection.fetchval("SELECT now()")
        await connection.fetchval("SELECT count(*) FROM generate_series(1, 20000)")
        jobs = [send.job(n) for n in range(3)]
        handles = await app.enqueue_many(jobs, connection=or_own(connection if way == "insert" else None))
    for handle in handles:
        row = await row_of(connection, handle.id)
        assert before <= began < row["run_at"] <= await clock(connection)


async def test_all_of_many_jobs_are_stored_or_none(way: str, app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    good = [send.using(unique=f"k{n}").job(n) for n in range(50)]
    await connection.execute("ALTER TABLE rowlock.job ADD CONSTRAINT unlucky CHECK (args <> '{\"n\": 49}')")
    with pytest.raises(asyncpg.CheckViolationError):
        await enqueue_many(app, good, way, connection)
    assert await count(connection) == 0
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0


async def test_many_jobs_in_a_transaction_that_is_rolled_back_are_none(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    transaction = connection.transaction()
    await transaction.start()
    await app.enqueue_many([send.using(unique=f"k{n}").job(n) for n in range(50)], connection=connection)
    assert await count(connection) == 50
    await transaction.rollback()
    assert await count(connection) == 0
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0


async def test_duplicates_within_one_call_and_against_stored_jobs_point_to_the_holder(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    held = await send.using(unique="held").enqueue(0)
    handles = await enqueue_many(
        app,
        [
            send.using(unique="new").job(1),
            send.using(unique="held").job(2),
            send.job(3),
            send.using(unique="new").job(4),
            send.using(unique="last").job(5),
        ],
        way,
        connection,
    )
    assert [handle.is_duplicate for handle in handles] == [False, True, False, True, False]
    assert handles[1].id == held.id
    assert handles[3].id == handles[0].id
    rows = await connection.fetch("SELECT args FROM rowlock.job")
    assert sorted(json.loads(row["args"])["n"] for row in rows) == [0, 1, 3, 5]


async def test_many_jobs_that_are_all_duplicates_store_nothing(way: str, app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send() -> None: ...

    held = await send.using(unique="k").enqueue()
    handles = await enqueue_many(app, [send.using(unique="k").job(), send.using(unique="k").job()], way, connection)
    assert [handle.id for handle in handles] == [held.id, held.id]
    assert await count(connection) == 1


async def test_many_jobs_given_again_are_stored_once(way: str, app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    jobs = [send.using(unique=f"k{n}" if n % 2 else None, delay=60 if n % 3 else None).job(n) for n in range(12)]
    first = await enqueue_many(app, jobs[:8], way, connection)
    again = await enqueue_many(app, [*jobs, jobs[0], jobs[1]], way, connection)
    assert [handle.id for handle in first] == [job.id for job in jobs[:8]]
    assert [handle.id for handle in again] == [job.id for job in [*jobs, jobs[0], jobs[1]]]
    assert not any(handle.is_duplicate for handle in again)
    assert await count(connection) == 12


async def test_jobs_are_taken_from_a_generator_as_they_are_copied(app: Rowlock, connection: Connection) -> None:
    def plain_then_all_kinds() -> Iterator[Any]:
        yield from (send.job(n) for n in range(5_000))
        yield send.using(unique="k", delay=60).job(5_000)
        yield send.job(5_001)
        yield send.using(unique="k").job(5_002)

    @app.task
    async def send(n: int) -> None: ...

    handles = await app.enqueue_many(plain_then_all_kinds())
    rows = await connection.fetch(
        "SELECT id, args->>'n' AS n, unique_key, run_at > now() + interval '50 s' AS late FROM rowlock.job"
    )
    stored = {row["id"]: row for row in rows}
    assert len(stored) == 5_002
    assert [int(stored[handle.id]["n"]) for handle in handles] == [*range(5_002), 5_000], "the last one's key is taken"
    assert [handle.is_duplicate for handle in handles] == [False] * 5_002 + [True]
    assert [row["unique_key"] for row in rows if row["late"]] == ["send:k"]
    assert await app.enqueue_many(send.job(n) for n in range(0)) == []


async def test_a_generator_that_fails_leaves_nothing_behind(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    def breaks_off(after: int) -> Iterator[Any]:
        yield from (send.job(n) for n in range(after))
        raise LookupError("the caller's own")

    for after in (0, 1, 20_000):
        with pytest.raises(LookupError, match="own"):
            await app.enqueue_many(breaks_off(after))
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0
    assert len(await app.enqueue_many(send.job(n) for n in range(3))) == 3, "the connection is as good as before"


async def test_twenty_thousand_jobs_are_stored_at_once(way: str, app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    handles = await enqueue_many(app, [send.job(n) for n in range(20_000)], way, connection)
    assert len({handle.id for handle in handles}) == 20_000
    assert await connection.fetchval("SELECT count(DISTINCT args) FROM rowlock.job") == 20_000


async def test_a_bound_connection_belongs_to_the_call_and_not_to_its_jobs(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send() -> None: ...

    with pytest.raises(InvalidOption, match="enqueue_many"):
        send.using(connection=connection).job()
