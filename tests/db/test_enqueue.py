"""Enqueuing one job from Python: its row says what the call said, and it exists if its transaction commits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import (
    DatabaseUnavailable,
    InvalidArguments,
    InvalidOption,
    Job,
    JobNotFound,
    Rowlock,
    SchemaNotMigrated,
    Settings,
)
from rowlock.queue.jobs.identifiers import uuid7
from tests.db.rows import clock, count, row_of, without

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_an_enqueue_stores_the_call_with_the_options_of_the_task(app: Rowlock, connection: Connection) -> None:
    @app.task(queue="email", priority=7, max_attempts=3)
    async def send(recipient: str, subject: str = "Hi") -> None: ...

    before = await clock(connection)
    handle = await send.enqueue("ada@example.com")
    after = await clock(connection)

    row = await row_of(connection, handle.id)
    assert json.loads(row["args"]) == {"recipient": "ada@example.com"}
    assert (row["task"], row["queue"], row["priority"], row["max_attempts"]) == ("send", "email", 7, 3)
    assert (row["state"], row["attempt"], row["errors"], row["crashes"]) == ("queued", 0, 0, 0)
    assert (row["unique_key"], row["timeout"], row["error"], row["worker"]) == (None, None, None, None)
    assert before <= row["created_at"] <= after
    assert before <= row["run_at"] <= after
    assert (handle.task, handle.is_duplicate) == ("send", False)
    assert handle.id.version == 7


async def test_a_task_without_options_has_the_documented_defaults(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def plain() -> None: ...

    row = await row_of(connection, (await plain.enqueue()).id)
    assert (row["queue"], row["priority"], row["max_attempts"], row["args"]) == ("default", 5, 10, "{}")


async def test_each_option_of_using_is_in_the_row_and_changes_nothing_else(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(queue="email", priority=7, max_attempts=3)
    async def send() -> None: ...

    usual = await row_of(connection, (await send.enqueue()).id)
    given: list[tuple[dict[str, Any], str, object]] = [
        ({"queue": "other"}, "queue", "other"),
        ({"priority": 0}, "priority", 0),
        ({"priority": 9}, "priority", 9),
        ({"max_attempts": 1}, "max_attempts", 1),
        ({"timeout": 1.5}, "timeout", timedelta(seconds=1.5)),
        ({"timeout": timedelta(minutes=2)}, "timeout", timedelta(minutes=2)),
        ({"unique": "a:1"}, "unique_key", "send:a:1"),
    ]
    for options, column, value in given:
        row = await row_of(connection, (await send.using(**options).enqueue()).id)
        assert row[column] == value
        assert without(row, "id", "created_at", "run_at", column) == without(
            usual, "id", "created_at", "run_at", column
        )


async def test_a_delay_counts_from_the_database_s_now(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def later() -> None: ...

    delays: list[float | timedelta] = [60, 60.0, timedelta(minutes=1)]
    for delay in delays:
        before = await clock(connection)
        row = await row_of(connection, (await later.using(delay=delay).enqueue()).id)
        assert before + timedelta(minutes=1) <= row["run_at"] <= await clock(connection) + timedelta(minutes=1)
        assert row["state"] == "scheduled"


async def test_run_at_is_an_instant_whatever_its_zone(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def later() -> None: ...

    moment = datetime(2999, 1, 1, 12, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    row = await row_of(connection, (await later.using(run_at=moment).enqueue()).id)
    assert row["run_at"] == datetime(2999, 1, 1, 6, 30, tzinfo=UTC)


async def test_a_plain_job_is_stored_alike_by_every_way(app: Rowlock, connection: Connection) -> None:
    @app.task(queue="email", priority=7, max_attempts=3)
    async def send(n: int) -> None: ...

    async def stored(job_id: UUID) -> dict[str, Any]:
        row = dict(await row_of(connection, job_id))
        assert row["run_at"] - row["created_at"] < timedelta(seconds=1)
        return {name: row[name] for name in row if name not in {"id", "run_at", "created_at"}}

    job = send.job(1)
    plain = await stored((await send.enqueue(1)).id)
    assert await stored((await app.enqueue_many([job]))[0].id) == plain
    assert await stored((await app.enqueue_many([send.job(1)], connection=connection))[0].id) == plain
    by_function = await connection.fetchval(
        "SELECT rowlock.enqueue('send', '{\"n\": 1}', queue => 'email', priority => 7, max_attempts => 3)"
    )
    assert await stored(by_function) == plain
    assert await app.store.enqueue(job) == job.id, "it is there already: nothing is stored"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 4


async def test_a_moment_in_the_past_is_now(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def late() -> None: ...

    options: dict[str, Any] = {"run_at": datetime(1999, 1, 1, tzinfo=UTC)}
    before = await clock(connection)
    one = await row_of(connection, (await late.using(**options).enqueue()).id)
    [copied] = await app.enqueue_many([late.using(**options).job()])
    async with connection.transaction():
        [inserted] = await app.enqueue_many([late.using(**options).job()], connection=connection)
    after = await clock(connection)
    assert before <= one["run_at"] <= after
    assert before <= (await row_of(connection, copied.id))["run_at"] <= after
    assert before <= (await row_of(connection, inserted.id))["run_at"] <= after


async def test_an_option_that_makes_no_sense_is_refused_before_anything_is_stored(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    senseless: list[tuple[dict[str, Any], str]] = [
        ({"queue": "no spaces"}, "queue must .*; got 'no spaces'"),
        ({"queue": "q" * 49}, "1 to 48"),
        ({"queue": "."}, "not . or .. alone"),
        ({"queue": ".."}, "not . or .. alone"),
        ({"priority": 10}, "priority must .*; got 10"),
        ({"priority": True}, "priority must .*; got True"),
        ({"max_attempts": 0}, "max_attempts must .*; got 0"),
        ({"delay": -1}, "delay must .*; got -1"),
        ({"delay": float("nan")}, "delay must .*; got nan"),
        ({"delay": float("inf")}, "delay must .*; got inf"),
        ({"run_at": datetime(2030, 1, 1)}, "must have a time zone"),  # noqa: DTZ001  # refused for that
        ({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "both"),
        ({"timeout": 0}, "timeout must .*; got 0"),
        ({"unique": ""}, "unique must have 1 to 512 bytes; got 0"),
        ({"unique": "é" * 257}, "unique must have 1 to 512 bytes; got 514"),
        ({"unique": "a\0b"}, "NUL"),
        ({"unique": "\ud800"}, "surrogate"),
    ]
    for options, words in senseless:
        with pytest.raises(InvalidOption, match=words):
            await send.using(**options).enqueue()
        with pytest.raises(InvalidOption, match=words):
            await app.enqueue("send", **options)
    assert await count(connection) == 0


async def test_arguments_that_do_not_fit_are_refused_before_anything_is_stored(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(count: int) -> None: ...

    wrong: Any = "many"
    with pytest.raises(InvalidArguments, match="count"):
        await send.enqueue(wrong)
    assert await count(connection) == 0


async def test_an_enqueue_in_the_caller_s_transaction_ends_with_it(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send() -> None: ...

    async with connection.transaction():
        kept = await send.using(connection=connection).enqueue()
        with pytest.raises(JobNotFound):  # nobody else sees it yet
            await kept.get()
    transaction = connection.transaction()
    await transaction.start()
    gone = await send.using(connection=connection).enqueue()
    await transaction.rollback()
    assert (await kept.get()).state == "queued"
    with pytest.raises(JobNotFound):
        await gone.get()
    assert await count(connection) == 1


async def test_a_connection_that_cannot_be_used_is_refused(app: Rowlock, database_url: str) -> None:
    @app.task
    async def send() -> None: ...

    closed = await asyncpg.connect(database_url)
    await closed.close()
    with pytest.raises(InvalidOption, match="closed"):
        await send.using(connection=closed).enqueue()
    with pytest.raises(InvalidOption, match=r"connection must be .* got a value of type int"):
        await send.using(connection=7).enqueue()


async def test_an_enqueue_says_that_the_schema_is_missing(empty_database_url: str) -> None:
    async with Rowlock(settings=Settings(database_url=empty_database_url)) as app:

        @app.task
        async def send() -> None: ...

        for attempt in (send.enqueue(), app.enqueue_many([send.job()]), app.get(uuid7())):
            with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
                await attempt


async def test_an_enqueue_says_that_no_server_answers() -> None:
    async with Rowlock(settings=Settings(database_url="postgresql://u:secret@127.0.0.1:1/none")) as app:

        @app.task
        async def send() -> None: ...

        with pytest.raises(DatabaseUnavailable, match="check that the server runs") as refused:
            await send.enqueue()
        assert "secret" not in str(refused.value)
        assert isinstance(refused.value.__cause__, OSError)


async def test_a_task_whose_annotations_only_the_type_checker_can_import_is_a_task(
    app: Rowlock, connection: Connection
) -> None:
    async def report(job: Job, pages: int) -> Elsewhere:  # type: ignore[name-defined]  # noqa: F821
        ...

    task: Any = app.task(report)
    row = await row_of(connection, (await task.enqueue(2)).id)
    assert json.loads(row["args"]) == {"pages": 2}
