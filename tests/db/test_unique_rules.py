"""The rules of uniqueness: in which scope a key is held, and what becomes of a second job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, get_args
from uuid import UUID

import asyncpg
import pytest

from rowlock import DuplicateJob, InvalidOption, JobFailed, NewJob, Rowlock, Settings, Unique
from rowlock.queue.connect.drivers import or_own
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.unique import OnDuplicate, Until
from tests.db.unique_keys import args_of, count, enqueue, run_out
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture(params=["alone", "copy", "insert"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# In which scope.


async def test_a_key_across_tasks_is_held_by_one_job_of_them_all(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> int:
        return 7

    @app.task
    async def post() -> str:
        return "posted"

    wide = Unique("ada", across_tasks=True)
    first = await enqueue(app, send.using(unique=wide).job(), way, connection)
    second = await enqueue(app, post.using(unique=wide).job(), way, connection)
    apart = await enqueue(app, post.using(unique="ada").job(), way, connection)
    assert (second.id, second.is_duplicate, second.task) == (first.id, True, "send")
    assert not apart.is_duplicate, "a key of the task's own is another one"
    assert (await first.get()).unique_key == ":ada"
    if way == "alone":
        assert (await post.using(unique=wide).enqueue()).task == "send"
    await app.worker().drain()
    assert await app.handle(await second.get()).result(timeout=10) == 7
    assert (await second.get()).result == await second.result(timeout=10), "not made into text"


async def test_by_its_name_a_job_has_the_key_that_its_task_makes(app: Rowlock, connection: Connection) -> None:
    @app.task(unique=Unique(by=["to", "subject"]))
    async def send(to: str, subject: str = "Hi", body: str = "") -> None: ...

    first = await send.enqueue("ada", body="one")
    second = await app.enqueue("send", {"to": "ada", "subject": "Hi", "body": "two"})
    assert (second.id, second.is_duplicate) == (first.id, True)

    # the same from a program that has only heard of the task
    await app.worker().drain()
    held = await send.enqueue("ada")
    async with Rowlock(settings=app.settings) as stranger:
        by_two = Unique(by=["to", "subject"])
        third = await stranger.enqueue("send", {"to": "ada", "subject": "Hi"}, unique=by_two)
        assert (third.id, third.is_duplicate) == (held.id, True)
        with pytest.raises(InvalidOption, match="by 'subject' needs the argument 'subject', which was not given"):
            await stranger.enqueue("send", {"to": "ada"}, unique=by_two)
        every = Unique(by="arguments")
        fourth = await stranger.enqueue("send", {"to": "bob"}, unique=every)
    assert (await send.using(unique=every).enqueue("bob", "Hi")).id == fourth.id


# What becomes of a second job.


async def test_a_duplicate_that_is_to_be_an_error_stores_nothing_and_leaves_the_transaction_usable(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    strict = send.using(unique=Unique("k", on_duplicate="raise"))
    first = await strict.enqueue(1)
    with pytest.raises(DuplicateJob, match=f"{first.id} holds the unique key 'send:k'") as refused:
        await strict.enqueue(2)
    assert refused.value.job_id == first.id
    with pytest.raises(DuplicateJob):
        await app.enqueue_many([send.job(3), strict.job(4)])
    with pytest.raises(DuplicateJob):
        await app.enqueue_many([send.using(unique=Unique("new", on_duplicate="raise")).job(n) for n in (5, 6)])
    assert await count(connection) == 1

    async with connection.transaction():
        await send.using(connection=connection).enqueue(7)
        with pytest.raises(DuplicateJob):
            await send.using(unique=Unique("k", on_duplicate="raise"), connection=connection).enqueue(8)
        many = [send.job(9), send.using(unique="other").job(10), strict.job(11)]
        with pytest.raises(DuplicateJob):
            await app.enqueue_many(many, connection=connection)
        await app.enqueue_many([send.job(12), send.using(unique="other").job(13)], connection=connection)
    rows = await connection.fetch("SELECT args->>'n' AS n FROM rowlock.job ORDER BY id")
    assert [row["n"] for row in rows] == ["1", "7", "12", "13"]
    keys = await connection.fetch("SELECT key FROM rowlock.unique_key ORDER BY key")
    assert [row["key"] for row in keys] == ["send:k", "send:other"]


async def test_a_replaced_job_has_the_arguments_the_time_and_the_options_of_the_second_call(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def index(text: str) -> str:
        return text

    latest = Unique("k", on_duplicate="replace")
    first = await enqueue(app, index.using(unique=latest, delay=60).job("a"), way, connection)
    before = await connection.fetchval("SELECT clock_timestamp()")
    second = await enqueue(
        app,
        index.using(unique=latest, priority=9, queue="other", max_attempts=2, timeout=3, delay=5).job("b"),
        way,
        connection,
    )
    assert (second.id, second.is_duplicate) == (first.id, True)
    job = await first.get()
    assert (job.args, job.priority, job.queue, job.max_attempts) == ({"text": "b"}, 9, "other", 2)
    assert (job.timeout, job.unique_key, job.attempt) == (timedelta(seconds=3), "index:k", 0)
    assert timedelta(0) <= job.run_at - before - timedelta(seconds=5) < timedelta(seconds=5)

    await enqueue(app, index.using(unique=latest).job("c"), way, connection)
    assert await count(connection) == 1
    await app.worker().drain()
    assert await first.result(timeout=10) == "c"


async def test_a_replaced_job_has_the_limits_in_time_of_the_second_call(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def index(text: str) -> None: ...

    latest = Unique("k", on_duplicate="replace")
    first = await enqueue(app, index.using(unique=latest, expires=60, deadline=90).job("a"), way, connection)
    await enqueue(app, index.using(unique=latest, expires=600, deadline=900).job("b"), way, connection)
    limits = "SELECT ends_at = expires_at AS is_expiry, deadline - expires_at AS apart, ends_at - now() AS left FROM "
    row = await connection.fetchrow(f"{limits} rowlock.job WHERE id = $1", first.id)
    assert row is not None
    assert (row["is_expiry"], round(row["apart"].total_seconds())) == (True, 300)
    assert timedelta(seconds=500) < row["left"] <= timedelta(seconds=600)

    await connection.execute("UPDATE rowlock.job SET attempt = 1")  # it has started once: it can expire no more
    await enqueue(app, index.using(unique=latest, expires=60, deadline=900).job("c"), way, connection)
    assert await connection.fetchval("SELECT ends_at = deadline FROM rowlock.job")
    await enqueue(app, index.using(unique=latest).job("d"), way, connection)
    assert await connection.fetchval("SELECT coalesce(ends_at, expires_at, deadline) FROM rowlock.job") is None


async def test_a_job_that_will_never_start_is_not_replaced_and_holds_no_key(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def index(n: int) -> None: ...

    until_start = Unique("s", until="start", on_duplicate="replace")
    first = await index.using(unique=until_start, expires=60).enqueue(1)
    other = await index.using(unique=Unique("f", on_duplicate="replace"), expires=60).enqueue(1)
    await connection.execute("UPDATE rowlock.job SET ends_at = clock_timestamp()")
    assert not (await index.using(unique=until_start).enqueue(2)).is_duplicate
    assert not (await index.using(unique=Unique("f", on_duplicate="replace")).enqueue(2)).is_duplicate
    assert await args_of(connection, first.id) == await args_of(connection, other.id) == {"n": 1}


@pytest.mark.parametrize("until", ["finish", "start"])
async def test_a_running_job_is_not_replaced(until: Until, app: Rowlock, connection: Connection) -> None:
    started, released = asyncio.Event(), asyncio.Event()

    @app.task(unique=Unique("k", until=until, on_duplicate="replace"))
    async def index(text: str) -> str:
        started.set()
        await released.wait()
        return text

    first = await index.enqueue("a")
    async with app.worker(concurrency=1):
        await asyncio.wait_for(started.wait(), 10)
        second = await index.enqueue("b")
        third = await index.enqueue("c")
        assert second.is_duplicate is (until == "finish")
        assert third.id == second.id
        assert (await app.get(first.id)).args == {"text": "a"}, "its row says with what it runs"
        released.set()
        assert await first.result(timeout=10) == "a"
        assert await third.result(timeout=10) == ("a" if until == "finish" else "c")


@pytest.mark.needs_session("it waits for a notification")
async def test_a_job_that_was_replaced_while_a_worker_sleeps_is_run_at_once(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("k", on_duplicate="replace"))
    async def index(text: str) -> str:
        return text

    first = await index.using(delay=3600).enqueue("a")
    async with app.worker():
        await eventually(lambda: connection.fetchval("SELECT count(*) > 0 FROM rowlock.idle_worker"))
        await index.enqueue("b")
        assert await first.result(timeout=10) == "b"


async def test_a_key_whose_job_has_ended_replaces_nothing_while_its_period_lasts(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("k", period=60, on_duplicate="replace"))
    async def index(text: str) -> str:
        return text

    first = await index.enqueue("a")
    assert (await index.enqueue("b")).id == first.id
    await app.worker().drain()
    late = await index.enqueue("c")
    assert (late.id, late.is_duplicate) == (first.id, True)
    assert await late.result(timeout=10) == "b"
    assert await count(connection) == 0


async def test_skipped_duplicates_have_no_handle_among_many_and_the_holder_s_alone(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    def once(key: str, n: int) -> NewJob[None]:
        return send.using(unique=Unique(key, on_duplicate="skip")).job(n)

    held = await send.using(unique="a").enqueue(0)
    jobs = [once("a", 1), once("b", 2), send.job(3), once("b", 4), send.using(unique="b").job(5)]
    handles = await app.enqueue_many(jobs)
    assert [handle.id for handle in handles] == [jobs[1].id, jobs[2].id, jobs[1].id]
    assert [handle.is_duplicate for handle in handles] == [False, False, True]
    alone = await send.using(unique=Unique("a", on_duplicate="skip")).enqueue(6)
    assert (alone.id, alone.is_duplicate) == (held.id, True)


async def test_of_many_jobs_with_one_key_the_first_is_stored_and_the_last_replaces_it(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def index(n: int) -> None: ...

    rules: list[tuple[OnDuplicate, int]] = [("return", 0), ("skip", 0), ("replace", 4)]
    for until in get_args(Until):
        for on_duplicate, kept in rules:
            unique = Unique("k", until=until, on_duplicate=on_duplicate)
            for caller in (None, connection):
                jobs = [index.using(unique=unique).job(n) for n in range(5)]
                handles = await app.enqueue_many(jobs, connection=or_own(caller))
                assert {handle.id for handle in handles} == {jobs[0].id}
                assert await count(connection) == 1
                assert await args_of(connection, jobs[0].id) == {"n": kept}
                await connection.execute("TRUNCATE rowlock.job, rowlock.unique_key")


async def test_many_jobs_given_again_keep_their_keys_under_every_rule(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send(n: int) -> None: ...

    rules = [
        Unique("a", until="start", on_duplicate="raise"),
        Unique("b", period=60, on_duplicate="raise"),
        Unique("c", on_duplicate="replace"),
        Unique("d", across_tasks=True, on_duplicate="skip"),
    ]
    jobs = [send.job(9), *(send.using(unique=unique).job(n) for n, unique in enumerate(rules))]
    for caller in (None, connection):
        handles = await app.enqueue_many(jobs, connection=or_own(caller))
        assert [handle.id for handle in handles] == [job.id for job in jobs]
        assert not any(handle.is_duplicate for handle in handles)
    # once they run, the same
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1", uuid7())
    assert not any(handle.is_duplicate for handle in await app.enqueue_many(jobs))
    assert await count(connection) == 5


async def sql(connection: Connection, **options: object) -> UUID:
    named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 1))
    job_id: UUID = await connection.fetchval(f"SELECT rowlock.enqueue('send'{named})", *options.values())
    return job_id


# From SQL.


async def test_a_live_job_that_is_given_again_touches_nothing_though_another_has_its_key_by_now(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("k", until="start", on_duplicate="replace"))
    async def send(n: int) -> None: ...

    first = send.job(1)
    await enqueue(app, first, way, connection)
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = gen_random_uuid(), attempt = 1")
    second = await send.enqueue(2)
    handle = await enqueue(app, first, way, connection)
    assert (handle.id, handle.is_duplicate) == (first.id, False)
    assert await args_of(connection, second.id) == {"n": 2}, "the call made again is older than this one"


async def test_a_job_that_is_put_back_holds_its_key_though_the_period_is_over_whether_the_upkeep_came_by_or_not(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("k", period=60))
    async def send() -> None: ...

    for has_come_by in (False, True):
        job = await send.enqueue()
        await app.jobs.cancel(job.id)
        await run_out(connection)
        if has_come_by:
            assert await connection.fetchval(statement("forget_unique_keys", "rowlock"), 10) == 1
        await app.jobs.retry(job.id)
        assert (await send.enqueue()).id == job.id
        await app.jobs.cancel(job.id)


async def test_sql_knows_every_rule(app: Rowlock, connection: Connection) -> None:
    first = await sql(connection, unique_key="k", unique_until="start", args='{"n": 1}', delay=timedelta(hours=1))
    second = await sql(
        connection, unique_key="k", unique_until="start", args='{"n": 2}', on_duplicate="replace", priority=9
    )
    assert second == first
    assert await args_of(connection, first) == {"n": 2}
    with pytest.raises(asyncpg.UniqueViolationError, match=f"job {first} holds the unique key 'k'") as refused:
        await sql(connection, unique_key="k", on_duplicate="raise")
    assert refused.value.detail == str(first)
    assert await sql(connection, unique_key="k", on_duplicate="skip") == first
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1", uuid7())
    assert await sql(connection, unique_key="k", unique_until="start") != first

    wide = await sql(connection, unique_key="k", unique_across_tasks=True, unique_period=timedelta(hours=1))
    other = "SELECT rowlock.enqueue('other', unique_key => 'k', unique_across_tasks => true)"
    assert await connection.fetchval(other) == wide
    assert (await app.get(wide)).unique_key == ":k"


async def test_sql_refuses_rules_that_make_no_sense(connection: Connection) -> None:
    senseless: list[tuple[dict[str, object], str]] = [
        ({"unique_until": "end"}, "unique_until 'end' is not known"),
        ({"unique_until": None}, "unique_until null"),
        ({"on_duplicate": "x"}, "on_duplicate 'x' is not known"),
        ({"on_duplicate": None}, "on_duplicate null"),
        ({"unique_across_tasks": None}, "unique_across_tasks is null"),
        ({"unique_period": timedelta(0)}, "unique_period must be greater than zero and at most 100 years"),
        ({"unique_period": timedelta(seconds=-1)}, "unique_period must be greater than zero and at most 100 years"),
        ({"unique_period": timedelta(days=40_000)}, "unique_period must be greater than zero and at most 100 years"),
        ({"unique_period": timedelta(1), "unique_until": "start"}, "both given"),
    ]
    for options, words in senseless:
        with pytest.raises(asyncpg.InvalidParameterValueError, match=words) as refused:
            await sql(connection, unique_key="k", **options)
        assert refused.value.hint
    for alone in ({"unique_until": "start"}, {"on_duplicate": "raise"}, {"unique_across_tasks": True}):
        with pytest.raises(asyncpg.InvalidParameterValueError, match="without a unique_key"):
            await sql(connection, **alone)
    assert await count(connection) == 0


async def test_a_job_that_failed_for_good_keeps_a_key_for_a_period(app: Rowlock) -> None:
    @app.task(max_attempts=1, unique=Unique("k", period=3600))
    async def send() -> None:
        raise ValueError("no")

    first = await send.enqueue()
    await app.worker().drain()
    second = await send.enqueue()
    with pytest.raises(JobFailed):
        await second.result(timeout=10)
    assert second.id == first.id
