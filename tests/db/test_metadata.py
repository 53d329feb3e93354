"""Metadata: texts by key, carried from the enqueue to the end, over every way there is, and searched for."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from enum import Enum
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import (
    Cancel,
    DuplicateJob,
    InvalidOption,
    Job,
    JobFilter,
    Retry,
    Rowlock,
    Settings,
    TaskDefaults,
    Unique,
)
from tests.db.claimants import hold

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

GIVEN = {"customer": "42", "note": 'a "quoted" \\ text, ä and 🦀', "empty": "", "A.b_c-9": "x" * 256}
KEPT = {"team": "mail", **GIVEN}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:

        @app.task(max_attempts=2, backoff=0, metadata={"team": "mail", "customer": "none"})
        async def end(how: str, job: Job) -> dict[str, str]:
            if how == "retry" and job.attempt == 1:
                raise Retry(delay=0)
            if how in {"fail", "cancel"}:
                raise {"fail": ValueError("no good"), "cancel": Cancel("not needed")}[how]
            return job.metadata

        yield app


@pytest.mark.parametrize("how", ["succeed", "retry", "fail", "cancel"])
@pytest.mark.parametrize("way", ["one", "unique", "many", "many unique", "in a transaction", "many in a transaction"])
async def test_it_stays_with_the_job_however_it_came_and_however_it_ends(
    way: str, how: str, app: Rowlock, connection: Connection
) -> None:
    unique = "key" if "unique" in way else None
    task = app.tasks["end"].using(metadata=GIVEN, unique=unique)
    if way in {"one", "unique"}:
        (handle,) = [await task.enqueue(how)]
    elif way == "in a transaction":
        async with connection.transaction():
            handle = await app.tasks["end"].using(metadata=GIVEN, connection=connection).enqueue(how)
    elif way == "many in a transaction":
        async with connection.transaction():
            (handle,) = await app.enqueue_many([task.job(how)], connection=connection)
    else:
        (handle,) = await app.enqueue_many([task.job(how)])
    assert (await handle.get()).metadata == KEPT
    await app.worker().drain()
    ended = await handle.get()
    assert ended.is_finished
    assert ended.metadata == KEPT
    if ended.state == "succeeded":
        assert ended.result == KEPT, "its handler saw it too"
    else:
        assert (await app.jobs.retry(handle.id)).metadata == KEPT


async def test_a_job_that_is_run_again_has_it_too(app: Rowlock) -> None:
    handle = await app.tasks["end"].using(metadata=GIVEN).enqueue("fail")
    await app.worker().drain()
    assert (await app.jobs.run_again(handle.id)).metadata == KEPT


async def test_it_stays_with_a_job_that_never_starts(app: Rowlock, connection: Connection) -> None:
    task = app.tasks["end"]
    cancelled = await task.using(metadata=GIVEN, delay=60).enqueue("succeed")
    await app.jobs.cancel(cancelled.id)
    expired = await task.using(metadata=GIVEN, expires=60).enqueue("succeed")
    await connection.execute("UPDATE rowlock.job SET ends_at = now() - interval '1 second'")
    await app.database.run("end_overdue", 10)
    assert [(await handle.get()).state for handle in (cancelled, expired)] == ["cancelled", "expired"]
    assert [(await handle.get()).metadata for handle in (cancelled, expired)] == [KEPT, KEPT]


async def test_a_crashed_job_keeps_it_until_it_is_set_aside(app: Rowlock, connection: Connection) -> None:
    handle = await app.tasks["end"].using(metadata=GIVEN).enqueue("succeed")
    gone = UUID(int=5)
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1, crashes = 2", gone)
    await hold(connection)
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "VALUES ($1, 'h', 1, '1', '{}', '{}', 1, now() - interval '1 minute')",
        gone,
    )
    await app.database.run("rescue", 3, 100, False)
    ended = await handle.get()
    assert (ended.state, ended.metadata) == ("failed", KEPT)


async def test_many_jobs_each_have_their_own(app: Rowlock) -> None:
    end, plain = app.tasks["end"], app.task(name="plain")(lambda: None)
    jobs = [end.using(metadata={"n": str(n)}).job("succeed") for n in range(3)] + [plain.job()]
    handles = await app.enqueue_many(jobs)
    own = [{"team": "mail", "customer": "none", "n": str(n)} for n in range(3)]
    assert [(await handle.get()).metadata for handle in handles] == [*own, {}]


async def test_a_job_without_any_is_plain_and_its_column_is_null(app: Rowlock, connection: Connection) -> None:
    plain = app.task(name="plain", metadata={})(lambda: None)
    job = plain.using(metadata={}).job()
    assert job.options.are_plain
    await plain.using(metadata=None).enqueue()
    await app.enqueue("plain", metadata={})
    await app.enqueue_many([job])
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job WHERE metadata IS NULL") == 3


async def test_an_enqueue_by_name_is_over_that_of_the_task(app: Rowlock) -> None:
    handle = await app.enqueue("end", {"how": "succeed"}, metadata={"customer": "7"})
    assert (await handle.get()).metadata == {"team": "mail", "customer": "7"}


def test_a_synchronous_program_enqueues_with_it(settings: Settings) -> None:
    app = Rowlock(settings=settings)
    task = app.task(name="plain")(lambda: None)
    handles = [
        task.using(metadata=GIVEN).enqueue_sync(),
        app.enqueue_sync("plain", metadata=GIVEN),
        *app.enqueue_many_sync([task.using(metadata=GIVEN).job()]),
    ]
    assert [app.run_sync(handle.get()).metadata for handle in handles] == [GIVEN] * 3
    app.run_sync(app.close())


def test_all_tasks_of_an_application_can_have_it(settings: Settings) -> None:
    app = Rowlock(settings=settings, task_defaults=TaskDefaults(metadata={"team": "mail"}))
    usual, own = app.task(name="usual")(lambda: None), app.task(name="own", metadata={"a": "b"})(lambda: None)
    assert [json.loads(task.options.metadata or "{}") for task in (usual, own)] == [{"team": "mail"}, {"a": "b"}]


async def test_a_replaced_job_has_that_of_the_newer_one(app: Rowlock) -> None:
    rule = Unique(key="k", on_duplicate="replace")
    first = await app.tasks["end"].using(unique=rule, metadata={"a": "old"}, delay=60).enqueue("succeed")
    await app.tasks["end"].using(unique=rule, metadata={"b": "new"}, delay=60).enqueue("succeed")
    assert (await first.get()).metadata == {"team": "mail", "customer": "none", "b": "new"}
    await app.enqueue_many([app.tasks["end"].using(unique=rule, metadata={"c": "newer"}, delay=60).job("succeed")])
    assert (await first.get()).metadata == {"team": "mail", "customer": "none", "c": "newer"}


async def test_a_refused_duplicate_leaves_that_of_the_first(app: Rowlock) -> None:
    rule = Unique(key="k", on_duplicate="raise")
    first = await app.tasks["end"].using(unique=rule, metadata={"a": "old"}).enqueue("succeed")
    with pytest.raises(DuplicateJob):
        await app.tasks["end"].using(unique=rule, metadata={"a": "new"}).enqueue("succeed")
    assert (await first.get()).metadata["a"] == "old"


async def test_texts_of_other_classes_are_texts(app: Rowlock) -> None:
    class Plan(str, Enum):  # noqa: UP042  # whose str() is another text
        PRO = "pro"

    class Name(str):
        __slots__ = ()

    given: dict[str, str] = {Name("plan"): Plan.PRO, Name("name"): Name("Ada")}
    handle = await app.tasks["end"].using(metadata=given).enqueue("succeed")
    assert (await handle.get()).metadata == {"team": "mail", "customer": "none", "plan": "pro", "name": "Ada"}
    which = JobFilter(metadata=given)
    assert [job.id for job in await app.jobs.list(which)] == [handle.id]
    assert which.described() == {"metadata": {"plan": "pro", "name": "Ada"}}


async def test_sql_enqueues_with_it(app: Rowlock, connection: Connection) -> None:
    enqueue = "SELECT rowlock.enqueue('end', '{\"how\": \"succeed\"}', metadata => $1)"
    job = await connection.fetchval(enqueue, json.dumps(GIVEN))
    none = await connection.fetchval(enqueue, "{}")
    assert [(await app.get(one)).metadata for one in (job, none)] == [GIVEN, {}]
    assert await connection.fetchval("SELECT metadata FROM rowlock.job WHERE id = $1", none) is None
    assert await connection.fetchval("SELECT metadata ->> 'customer' FROM rowlock.jobs WHERE id = $1", job) == "42"


@pytest.mark.parametrize(
    "metadata",
    [
        *(
            "[]",
            "null",
            "5",
            '"text"',
            '{"a": 1}',
            '{"a": null}',
            '{"a": ["b"]}',
            '{"a": {}}',
            '{"": "a"}',
            '{"a b": "c"}',
        ),
        *(json.dumps({"a": "x" * 257}), json.dumps({"a": "x\ny"}), json.dumps({"k" * 65: "x"})),
        json.dumps({str(n): "" for n in range(21)}),
    ],
)
async def test_sql_refuses_what_is_none(metadata: str, connection: Connection) -> None:
    with pytest.raises(asyncpg.InvalidParameterValueError, match="metadata"):
        await connection.fetchval("SELECT rowlock.enqueue('end', metadata => $1)", metadata)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize(
    "metadata",
    [
        *("[]", "null", "5", "true", '"text"', '["a"]', '{"a": 1}', '{"a": null}', '{"a": ["b"]}', '{"a": []}'),
        *(
            '{"a": {}}',
            '{"a": {"b": "c"}}',
            '{"a": ' + "[" * 100 + "]" * 100 + "}",
            '{"a": 1e131000}',
            '{"a": "b", "c": 1}',
        ),
        json.dumps({"a": "x" * 40_000}),
    ],
)
@pytest.mark.parametrize("table", ["job", "finished_job"])
async def test_no_row_can_hold_what_is_none(table: str, metadata: str, app: Rowlock, connection: Connection) -> None:
    await app.tasks["end"].enqueue("succeed")
    if table == "finished_job":
        await app.worker().drain()
    with pytest.raises(asyncpg.CheckViolationError, match=f"{table}_is_readable"):
        await connection.execute(f"UPDATE rowlock.{table} SET metadata = $1", metadata)


@pytest.mark.parametrize(
    "metadata, told",
    [
        ("one", "metadata must be texts by key; got 'one'"),
        ([], r"metadata must be texts by key; got \[\]"),
        (0, "metadata must be texts by key; got 0"),
        ({1: "a"}, "metadata must have keys of 1 to 64 of letters, digits, _ . and -; got 1"),
        ({"": "a"}, "metadata must have keys"),
        ({"a b": "a"}, "metadata must have keys"),
        ({"a:b": "a"}, "metadata must have keys"),
        ({"k" * 65: "a"}, "metadata must have keys"),
        ({"a\n": "a"}, "metadata must have keys"),
        ({"a": 42}, "metadata must have texts as values; got 42 for 'a'. Write it as '42'."),
        ({"a": True}, "metadata must have texts as values; got True for 'a'. Write it as 'True'."),
        ({"a": None}, "metadata must have texts as values; got a value of type NoneType for 'a'."),
        ({"a": {"b": "c"}}, "metadata must have texts as values; got a value of type dict for 'a'."),
        ({"a": "x" * 257}, "metadata must have values of up to 256 characters, .* got 257 characters for 'a'"),
        ({"a": "x\ny"}, r"metadata must have values .* got 'x\\ny' for 'a'"),
        ({"a": "\0"}, "metadata must have values"),
        ({"a": "\ud800"}, "metadata must have values"),
        ({str(n): "" for n in range(21)}, "metadata must have at most 20 keys"),
    ],
)
async def test_what_is_none_is_refused_by_name(metadata: Any, told: str, app: Rowlock) -> None:  # noqa: ANN401  # nonsense
    with pytest.raises(InvalidOption, match=told):
        app.tasks["end"].using(metadata=metadata)
    with pytest.raises(InvalidOption, match=told):
        app.task(name="other", metadata=metadata)(lambda: None)
    with pytest.raises(InvalidOption, match=told):
        await app.enqueue("end", {"how": "succeed"}, metadata=metadata)


async def test_those_of_the_task_count_too(app: Rowlock) -> None:
    app.tasks["end"].using(metadata={str(n): "" for n in range(18)})
    with pytest.raises(InvalidOption, match="metadata must have at most 20 keys, with those of the task; got 21"):
        app.tasks["end"].using(metadata={str(n): "" for n in range(19)})


@pytest.fixture
async def found(app: Rowlock) -> dict[str, UUID]:
    """Jobs of each kind of list: two that wait, one that failed, one that succeeded."""
    task, wait = app.tasks["end"], timedelta(hours=1)
    ended = [
        await task.using(metadata={"customer": "42", "plan": plan}).enqueue(how)
        for plan, how in (("free", "fail"), ("pro", "succeed"))
    ]
    await app.worker().drain()
    waiting = [
        await task.using(metadata={"customer": "42", "plan": "pro"}, delay=wait).enqueue("succeed"),
        await task.using(metadata={"customer": "4"}, delay=wait).enqueue("succeed"),
    ]
    plain = await app.task(name="plain")(lambda: None).using(delay=wait).enqueue()
    names = ("failed", "succeeded", "waiting", "other", "plain")
    return dict(zip(names, (handle.id for handle in (*ended, *waiting, plain)), strict=True))


@pytest.mark.parametrize(
    "which, names",
    [
        (JobFilter(metadata={"customer": "42"}), {"failed", "succeeded", "waiting"}),
        (JobFilter(metadata={"customer": "42", "plan": "pro"}), {"succeeded", "waiting"}),
        (JobFilter(metadata={"customer": "42"}, state="scheduled"), {"waiting"}),
        (JobFilter(metadata={"customer": "42"}, state="failed"), {"failed"}),
        (JobFilter(metadata={"customer": "42"}, state="succeeded"), {"succeeded"}),
        (JobFilter(metadata={"customer": "42"}, state="running"), set()),
        (JobFilter(metadata={"customer": "4"}), {"other"}),
        (JobFilter(metadata={"customer": ""}), set()),
        (JobFilter(metadata={"team": "mail"}), {"failed", "succeeded", "waiting", "other"}),
        (JobFilter(metadata={"Customer": "42"}), set()),
    ],
)
async def test_lists_find_jobs_by_it(which: JobFilter, names: set[str], app: Rowlock, found: dict[str, UUID]) -> None:
    assert {job.id for job in await app.jobs.list(which)} == {found[name] for name in names}


async def test_acts_on_many_jobs_and_the_dead_letters_heed_it(app: Rowlock, found: dict[str, UUID]) -> None:
    mine, other = JobFilter(metadata={"customer": "42"}), JobFilter(metadata={"customer": "43"})
    assert [group.jobs for group in await app.dead_letters.groups(mine)] == [1]
    assert await app.dead_letters.groups(other) == []
    assert [job.id for job in await app.dead_letters.list(mine)] == [found["failed"]]
    assert (await app.jobs.cancel_many(mine)).first_ids == [found["waiting"]]
    assert (await app.jobs.discard_many(other)).count == 0
    assert (await app.jobs.retry_many(mine)).first_ids == [found["failed"]]
    told = (await app.operations())[0].details["filter"]
    assert isinstance(told, dict)
    assert told["metadata"] == {"customer": "42"}


@pytest.mark.parametrize(
    "metadata", [{}, [], "customer:42", {"a": 1}, {"a": None}, {"": "a"}, {"a b": "c"}, {"a": "\0"}, {"a": "x" * 257}]
)
def test_a_filter_by_what_is_none_is_refused(metadata: Any) -> None:  # noqa: ANN401  # nonsense
    with pytest.raises(InvalidOption, match="metadata must"):
        JobFilter(metadata=metadata)
