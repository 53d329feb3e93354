"""Enqueuing one job from SQL, or by the name of its task."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import InvalidArguments, InvalidOption, Rowlock, Settings, UnknownTask
from rowlock.queue.jobs.identifiers import uuid7
from tests.db.rows import count, row_of

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def sql_enqueue(connection: Connection, task: str | None, **options: object) -> UUID:
    named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 2))
    job_id: UUID = await connection.fetchval(f"SELECT rowlock.enqueue($1{named})", task, *options.values())
    return job_id


# One job, from SQL.


async def test_sql_alone_enqueues_a_job_of_a_task_that_nobody_registered(connection: Connection) -> None:
    job_id = await sql_enqueue(connection, "send")
    row = await row_of(connection, job_id)
    assert (row["queue"], row["priority"], row["max_attempts"], row["args"]) == ("default", 5, 10, "{}")
    assert job_id.version == 7
    assert row["created_at"] - timedelta(seconds=1) <= datetime.fromtimestamp((job_id.int >> 80) / 1000, UTC)


async def test_sql_takes_what_is_left_out_from_the_registered_task(app: Rowlock, connection: Connection) -> None:
    @app.task(queue="email", priority=7, max_attempts=3)
    async def send() -> None: ...

    await app.worker().drain()
    usual = await row_of(connection, await sql_enqueue(connection, "send"))
    assert (usual["queue"], usual["priority"], usual["max_attempts"]) == ("email", 7, 3)
    other = await row_of(connection, await sql_enqueue(connection, "send", priority=0))
    assert (other["queue"], other["priority"], other["max_attempts"]) == ("email", 0, 3)


async def test_sql_stores_every_option(connection: Connection) -> None:
    job_id, run_at = uuid7(), datetime(2999, 1, 1, tzinfo=UTC)
    stored = await sql_enqueue(
        connection,
        "send",
        args='{"to": "ada"}',
        queue="email",
        priority=1,
        run_at=run_at,
        max_attempts=2,
        timeout=timedelta(seconds=3),
        unique_key="k",
        id=job_id,
    )
    row = await row_of(connection, stored)
    assert stored == job_id
    assert (row["queue"], row["priority"], row["max_attempts"], row["run_at"]) == ("email", 1, 2, run_at)
    assert (row["timeout"], row["unique_key"]) == (timedelta(seconds=3), "send:k")
    assert json.loads(row["args"]) == {"to": "ada"}


async def test_sql_refuses_what_makes_no_sense_and_says_what_would_do(connection: Connection) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    senseless: list[tuple[dict[str, Any], str, str]] = [
        ({"task": None}, "task null is not a valid task name", "1 to 128"),
        ({"task": "a b"}, "task 'a b' is not", "1 to 128"),
        ({"task": "a\n"}, "is not a valid task name", "1 to 128"),
        ({"task": ""}, "task '' is not", "1 to 128"),
        ({"task": "t" * 129}, "is not a valid task name", "1 to 128"),
        ({"queue": "a/b"}, "queue 'a/b' is not", "1 to 48"),
        ({"queue": "q" * 49}, "is not a valid queue name", "1 to 48"),
        ({"queue": ".."}, "queue '..' is not", "not . or .. alone"),
        ({"task": "."}, "task '.' is not", "not . or .. alone"),
        ({"priority": -1}, "priority -1 is out of range", "0 (last) to 9 (first)"),
        ({"priority": 10}, "priority 10 is out of range", "0 (last) to 9 (first)"),
        ({"max_attempts": 0}, "max_attempts 0 is below 1", "must not be retried"),
        ({"delay": timedelta(days=-1)}, "delay -1 days is negative", "zero or a positive"),
        ({"delay": timedelta(days=40_000)}, "delay 40000 days or run_at", "at most 100 years"),
        ({"delay": timedelta(1), "run_at": moment}, "both given", "one of them"),
        ({"timeout": timedelta(0)}, "timeout must be greater than zero; got 00:00:00", "no limit"),
        ({"timeout": timedelta(days=40_000)}, "timeout 40000 days is too long", "no limit"),
        ({"args": None}, "args is not a JSON object", "Name each argument"),
        ({"args": "[1]"}, "args is not a JSON object", "Name each argument"),
        ({"unique_key": ""}, "unique_key has 0 bytes", "1 to 512"),
        ({"unique_key": "é" * 257}, "unique_key has 514 bytes", "use a hash"),
    ]
    for options, message, hint in senseless:
        given = {"task": "send"} | options
        with pytest.raises(asyncpg.InvalidParameterValueError, match=message) as refused:
            await sql_enqueue(connection, given.pop("task"), **given)
        assert hint in (refused.value.hint or "")
    assert await count(connection) == 0


async def test_a_time_that_no_client_can_read_is_refused_and_stops_no_worker(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> str:
        return "sent"

    for argument in (
        "run_at => 'infinity'",
        "run_at => '10000-01-02'",
        "delay => '9000000 years'",
        "timeout => '9000000 years'",
    ):
        with pytest.raises(asyncpg.InvalidParameterValueError, match=r"too far away|too long"):
            await connection.execute(f"SELECT rowlock.enqueue('send', {argument})")
    await connection.execute("SELECT rowlock.enqueue('send', run_at => '-infinity')")
    assert await app.worker().drain() == 1


async def test_a_rollback_leaves_nothing_of_an_enqueue_in_sql(connection: Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    await sql_enqueue(connection, "send", unique_key="k")
    await transaction.rollback()
    assert await count(connection) == 0
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0


async def test_the_same_id_twice_is_one_job(connection: Connection) -> None:
    job_id = uuid7()
    first = await sql_enqueue(connection, "send", id=job_id, args='{"n": 1}')
    again = await sql_enqueue(connection, "send", id=job_id, args='{"n": 2}')
    keyed = uuid7()
    assert [first, again] == [job_id, job_id]
    assert await sql_enqueue(connection, "send", id=keyed, unique_key="k") == keyed
    assert await sql_enqueue(connection, "send", id=keyed, unique_key="k") == keyed
    assert json.loads((await row_of(connection, job_id))["args"]) == {"n": 1}
    assert await count(connection) == 2


# One job, by name.


async def test_a_job_by_name_of_an_own_task_is_checked_against_its_function(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(queue="email", priority=7, max_attempts=3)
    async def send(recipient: str, copies: int = 1) -> None: ...

    handle = await app.enqueue("send", {"recipient": "ada"}, delay=60, unique="k", timeout=9)
    row = await row_of(connection, handle.id)
    assert (row["queue"], row["priority"], row["max_attempts"]) == ("email", 7, 3)
    assert (row["state"], row["unique_key"], row["timeout"]) == ("scheduled", "send:k", timedelta(seconds=9))
    for wrong in ({}, {"recipient": 7}, {"recipient": "ada", "more": 1}):
        with pytest.raises(InvalidArguments, match="send"):
            await app.enqueue("send", wrong)
    assert (await app.enqueue("send", {"recipient": "bob"}, unique="k")).is_duplicate
    assert await count(connection) == 1


async def test_a_job_by_name_of_another_program_s_task_takes_what_its_worker_registered(
    app: Rowlock, settings: Settings, connection: Connection
) -> None:
    async with Rowlock(settings=settings) as other:

        @other.task(queue="reports", priority=2, max_attempts=4)
        async def report(pages: int) -> int:
            return pages * 2

        await other.worker().drain()
        handle = await app.enqueue("report", {"pages": 21}, max_attempts=1)
        row = await row_of(connection, handle.id)
        assert (row["queue"], row["priority"], row["max_attempts"]) == ("reports", 2, 1)
        await other.worker().drain()
        assert await handle.result(timeout=5) == 42


async def test_a_job_by_name_of_a_task_that_nobody_knows_is_refused(app: Rowlock, connection: Connection) -> None:
    with pytest.raises(UnknownTask, match=r"'nothing' is not known.*Start a worker"):
        await app.enqueue("nothing")
    with pytest.raises(InvalidOption, match=r"task must .*; got 'no name'"):
        await app.enqueue("no name")
    assert await count(connection) == 0


async def test_a_job_by_name_of_a_foreign_task_has_json_for_arguments(app: Rowlock, connection: Connection) -> None:
    await connection.execute("INSERT INTO rowlock.task VALUES ('foreign', 'default', 5, 10)")
    unusable: list[Any] = [
        [1],
        {"x": float("nan")},
        {"x": "a\0b"},
        {"x": "\ud800"},
        {"x": object()},
        {"x": "y" * 300_000},
    ]
    for args in unusable:
        with pytest.raises(InvalidArguments, match="foreign"):
            await app.enqueue("foreign", args)
    assert await count(connection) == 0
