"""Enqueuing: every way in stores the same row, and a job exists if and only if its transaction commits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import (
    DatabaseUnavailable,
    InvalidArguments,
    InvalidOption,
    Job,
    JobFailed,
    JobNotFound,
    ResultTimeout,
    Rowlock,
    SchemaNotMigrated,
    Settings,
    UnknownTask,
)
from rowlock.queue.connect.drivers import or_own
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.read.pages import list_jobs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Row: TypeAlias = Mapping[str, Any]
SOON = timedelta(seconds=30)


@dataclass
class Report:
    pages: int
    made_on: datetime


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def row_of(connection: Connection, job_id: UUID) -> Row:
    row = await connection.fetchrow("SELECT * FROM rowlock.jobs WHERE id = $1", job_id)
    assert row is not None, "the job is not there"
    return dict(row)


def without(row: Row, *columns: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in columns}


async def count(connection: Connection) -> int:
    counted: int = await connection.fetchval("SELECT count(*) FROM rowlock.jobs")
    return counted


async def clock(connection: Connection) -> datetime:
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment


# One job, from Python.


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
        ({"queue": "no spaces"}, "queue 'no spaces'"),
        ({"queue": "q" * 49}, "1 to 48"),
        ({"queue": "."}, "not . or .. alone"),
        ({"queue": ".."}, "not . or .. alone"),
        ({"priority": 10}, "priority 10"),
        ({"priority": True}, "priority True"),
        ({"max_attempts": 0}, "max_attempts 0"),
        ({"delay": -1}, "delay -1"),
        ({"delay": float("nan")}, "delay nan"),
        ({"delay": float("inf")}, "delay inf"),
        ({"run_at": datetime(2030, 1, 1)}, "must have a time zone"),  # noqa: DTZ001  # refused for that
        ({"delay": 1, "run_at": datetime(2030, 1, 1, tzinfo=UTC)}, "both"),
        ({"timeout": 0}, "timeout 0"),
        ({"unique": ""}, "unique has 0 bytes"),
        ({"unique": "é" * 257}, "unique has 514 bytes"),
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
    with pytest.raises(InvalidOption, match="int is not known"):
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


# One job, from SQL.


async def sql_enqueue(connection: Connection, task: str | None, **options: object) -> UUID:
    named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 2))
    job_id: UUID = await connection.fetchval(f"SELECT rowlock.enqueue($1{named})", task, *options.values())
    return job_id


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
        ({"task": None}, "task null is not a task's name", "1 to 128"),
        ({"task": "a b"}, "task 'a b' is not", "1 to 128"),
        ({"task": "a\n"}, "is not a task's name", "1 to 128"),
        ({"task": ""}, "task '' is not", "1 to 128"),
        ({"task": "t" * 129}, "is not a task's name", "1 to 128"),
        ({"queue": "a/b"}, "queue 'a/b' is not", "1 to 48"),
        ({"queue": "q" * 49}, "is not a queue's name", "1 to 48"),
        ({"queue": ".."}, "queue '..' is not", "not . or .. alone"),
        ({"task": "."}, "task '.' is not", "not . or .. alone"),
        ({"priority": -1}, "priority -1 is out of range", "0 (last) to 9 (first)"),
        ({"priority": 10}, "priority 10 is out of range", "0 (last) to 9 (first)"),
        ({"max_attempts": 0}, "max_attempts 0 is below 1", "must not be retried"),
        ({"delay": timedelta(days=-1)}, "delay -1 days is negative", "zero or a positive"),
        ({"delay": timedelta(days=40_000)}, "delay 40000 days or run_at", "at most 100 years"),
        ({"delay": timedelta(1), "run_at": moment}, "both given", "one of them"),
        ({"timeout": timedelta(0)}, "timeout 00:00:00 is not above zero", "no limit"),
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
    with pytest.raises(InvalidOption, match="task 'no name'"):
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


# Many jobs.


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


# What became of it.


async def test_get_reads_a_job_alive_and_finished(app: Rowlock, connection: Connection) -> None:
    @app.task(queue="email", priority=7)
    async def send(to: str) -> dict[str, str]:
        return {"sent": to}

    handle = await send.enqueue("ada")
    alive = await app.get(handle.id)
    assert (alive.state, alive.is_finished, alive.args, alive.result) == ("queued", False, {"to": "ada"}, None)
    await app.worker().drain()
    finished = await app.get(str(handle.id))
    assert (finished.state, finished.is_finished, finished.attempt) == ("succeeded", True, 1)
    assert (finished.args, finished.result) == ({"to": "ada"}, {"sent": "ada"})
    assert (finished.queue, finished.priority, finished.created_at) == ("email", 7, alive.created_at)
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert alive.created_at <= finished.started_at <= finished.finished_at


async def test_get_says_that_there_is_no_such_job(app: Rowlock) -> None:
    for unknown in (uuid4(), str(uuid4()), "42", "", "x" * 1000, "\0"):
        with pytest.raises(JobNotFound, match="There is no job"):
            await app.get(unknown)


async def test_a_result_is_of_the_annotated_type(app: Rowlock) -> None:
    @app.task
    async def report(pages: int) -> Report:
        return Report(pages, datetime(2030, 1, 2, tzinfo=UTC))

    @app.task
    async def nothing() -> int | None:
        return None

    made, none = await report.enqueue(3), await nothing.enqueue()
    await app.worker().drain()
    assert await made.result(timeout=5) == Report(3, datetime(2030, 1, 2, tzinfo=UTC))
    assert await none.result(timeout=5) is None
    assert await app.handle(await app.get(made.id)).result() == Report(3, datetime(2030, 1, 2, tzinfo=UTC))


async def test_the_result_of_a_failed_job_raises_its_failure(app: Rowlock) -> None:
    @app.task(max_attempts=1)
    async def broken() -> None:
        raise ValueError("no such shelf")

    handle = await broken.enqueue()
    await app.worker().drain()
    with pytest.raises(JobFailed, match="has failed: ValueError: no such shelf") as failed:
        await handle.result(timeout=5)
    assert (failed.value.state, failed.value.error) == ("failed", "ValueError: no such shelf")


async def test_waiting_for_a_result_ends_at_its_timeout_and_the_job_goes_on(app: Rowlock) -> None:
    @app.task
    async def slow() -> int:
        return 1

    handle = await slow.enqueue()
    timeouts: list[float | timedelta] = [0, 0.05, timedelta(milliseconds=50)]
    for timeout in timeouts:
        with pytest.raises(ResultTimeout, match="still queued"):
            await handle.result(timeout=timeout)
    await app.worker().drain()
    assert await handle.result(timeout=0) == 1


async def test_a_result_is_waited_for_while_the_job_runs(app: Rowlock) -> None:
    go = asyncio.Event()

    @app.task
    async def slow() -> int:
        await go.wait()
        return 7

    async with app.worker():
        handle = await slow.enqueue()
        waiting = asyncio.create_task(handle.result())

        async def is_running() -> bool:
            return (await handle.get()).state == "running"

        await eventually(is_running)
        assert not waiting.done()
        go.set()
        assert await asyncio.wait_for(waiting, 5) == 7


async def test_the_result_of_a_job_whose_transaction_was_rolled_back_is_not_waited_for(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    transaction = connection.transaction()
    await transaction.start()
    handle = await send.using(connection=connection).enqueue()
    await transaction.rollback()
    with pytest.raises(JobNotFound, match="never committed"):
        await handle.result()


async def test_a_number_longer_than_python_reads_spoils_neither_the_list_nor_the_worker(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    @app.task(max_attempts=1)
    async def count(n: int) -> None: ...

    digits = "9" * 5000
    job_id = await connection.fetchval(
        "SELECT rowlock.enqueue('count', $1::text::jsonb, max_attempts => 1)", f'{{"n": {digits}}}'
    )
    assert (await app.get(job_id)).args == {"n": digits}
    assert [job.id for job in await list_jobs(app.database)] == [job_id]
    await app.worker().drain()
    assert (await app.get(job_id)).state == "failed"
