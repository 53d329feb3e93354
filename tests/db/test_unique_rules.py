"""The rules of uniqueness: how long a key is held, in which scope, and what becomes of a second job."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args
from uuid import UUID

import asyncpg
import pytest

from rowlock import (
    DuplicateJob,
    InvalidOption,
    Job,
    JobFailed,
    JobHandle,
    NewJob,
    Rowlock,
    Settings,
    Snooze,
    Unique,
)
from rowlock.queue.connect.drivers import or_own
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.unique import OnDuplicate, Until
from rowlock.queue.read import audits
from rowlock.worker.duties import keys
from tests.db.claimants import CLAIMANT, register
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

R = TypeVar("R")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture(params=["alone", "copy", "insert"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def enqueue(app: Rowlock, job: NewJob[R], way: str, connection: Connection) -> JobHandle[R]:
    """One job, by one of the ways in; returns its handle."""
    if way == "alone":
        stored = await app.store.enqueue(job)
        return (await app.by_name.handles([job], {} if stored == job.id else {job.id: stored}, None))[0]
    return (await app.enqueue_many([job], connection=or_own(connection if way == "insert" else None)))[0]


async def args_of(connection: Connection, job_id: UUID) -> object:
    return json.loads(await connection.fetchval("SELECT args FROM rowlock.job WHERE id = $1", job_id))


async def count(connection: Connection) -> int:
    counted: int = await connection.fetchval("SELECT count(*) FROM rowlock.job")
    return counted


async def run_out(connection: Connection) -> None:
    """Let the time of all periods pass."""
    await connection.execute(
        "UPDATE rowlock.unique_key SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL"
    )


async def pass_time(connection: Connection) -> None:
    """Let the time of all jobs be over that have a limit, as if they had been enqueued an hour ago."""
    await connection.execute(
        "UPDATE rowlock.job SET ends_at = ends_at - interval '1 hour', expires_at = expires_at - interval '1 hour', "
        "deadline = deadline - interval '1 hour', created_at = created_at - interval '1 hour', "
        "run_at = run_at - interval '1 hour'"
    )


# How long a key is held.


async def test_a_key_that_is_held_until_the_start_is_free_once_its_job_runs(
    way: str, app: Rowlock, connection: Connection
) -> None:
    started, released = asyncio.Event(), asyncio.Event()

    @app.task(unique=Unique("index", until="start"))
    async def rebuild(n: int) -> None:
        started.set()
        await released.wait()

    first = await enqueue(app, rebuild.job(1), way, connection)
    assert (await enqueue(app, rebuild.job(2), way, connection)).id == first.id
    async with app.worker(concurrency=1):
        await asyncio.wait_for(started.wait(), 10)
        second = await enqueue(app, rebuild.job(3), way, connection)
        third = await enqueue(app, rebuild.job(4), way, connection)
        assert not second.is_duplicate
        assert (third.id, third.is_duplicate) == (second.id, True)
        released.set()
        await second.result(timeout=10)
    assert (await first.get()).state == "succeeded"
    assert not (await enqueue(app, rebuild.job(5), way, connection)).is_duplicate, "free after the end as well"


async def test_who_is_told_of_a_waiting_job_does_not_hold_it_up(app: Rowlock, connection: Connection) -> None:
    @app.task(unique=Unique("index", until="start"))
    async def rebuild() -> None: ...

    first = await rebuild.enqueue()
    async with connection.transaction():
        assert (await rebuild.using(connection=connection).enqueue()).is_duplicate
        assert await app.worker().drain() == 1
        assert (await first.get()).state == "succeeded"


@pytest.mark.parametrize("until", ["finish", "start"])
@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
async def test_a_replacement_waits_for_a_claim_in_flight_and_comes_too_late_if_it_commits(
    commits: bool, until: Until, app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("index", until=until, on_duplicate="replace"))
    async def rebuild(n: int) -> None: ...

    first = await rebuild.enqueue(1)
    claim = connection.transaction()
    await claim.start()
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1", uuid7())
    waiting = asyncio.create_task(rebuild.enqueue(2))
    await eventually(
        lambda: connection.fetchval("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    )
    await (claim.commit() if commits else claim.rollback())
    second = await asyncio.wait_for(waiting, 10)
    assert second.is_duplicate is not (commits and until == "start")
    assert (second.id == first.id) is second.is_duplicate
    assert await args_of(connection, first.id) == {"n": 1 if commits else 2}


async def test_a_replacement_that_came_too_late_does_not_hold_up_the_finish(
    app: Rowlock, connection: Connection, settings: Settings
) -> None:
    """It has had a lock on the job's row for a moment: after a claim in flight."""

    @app.task(unique=Unique("index", on_duplicate="replace"))
    async def rebuild(n: int) -> None: ...

    first = await rebuild.enqueue(1)
    worker, claim = uuid7(), connection.transaction()
    await claim.start()
    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1, attempt = 1", worker)
    late = await asyncpg.connect(settings.database_url)
    async with late.transaction():
        waiting = asyncio.create_task(rebuild.using(connection=late).enqueue(2))
        await eventually(
            lambda: connection.fetchval("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )
        await claim.commit()
        assert (await asyncio.wait_for(waiting, 10)).is_duplicate
        refused = await asyncio.wait_for(app.database.run("succeed", worker, [first.id], [1], [None], [0.1]), 10)
        assert refused == []
    await late.close()


async def test_a_transaction_that_took_a_key_from_a_running_job_does_not_hold_up_its_finish(
    app: Rowlock, connection: Connection
) -> None:
    started, released = asyncio.Event(), asyncio.Event()

    @app.task(unique=Unique("index", until="start"))
    async def rebuild() -> None:
        started.set()
        await released.wait()

    first = await rebuild.enqueue()
    async with app.worker(concurrency=1):
        await asyncio.wait_for(started.wait(), 10)
        async with connection.transaction():
            assert not (await rebuild.using(connection=connection, delay=60).enqueue()).is_duplicate
            released.set()
            await first.result(timeout=10)


async def test_a_job_that_goes_back_to_waiting_holds_its_key_again_unless_another_has_it(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("index", until="start"))
    async def rebuild(job: Job, n: int) -> None:
        if n == 0 and job.attempt == 1:
            raise Snooze(60)

    first = await rebuild.enqueue(0)
    await app.worker().drain()
    assert (await rebuild.enqueue(1)).id == first.id

    await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1", uuid7())
    second = await rebuild.enqueue(2)
    await connection.execute("UPDATE rowlock.job SET state = 'queued', worker = NULL WHERE state = 'running'")
    assert not second.is_duplicate
    assert (await rebuild.enqueue(3)).id == second.id, "two of them wait now, and the second holds the key"


async def test_a_key_for_a_period_outlives_its_job_and_ends_with_the_period(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task(unique=Unique("welcome", period=timedelta(hours=1)))
    async def send(n: int) -> None: ...

    first = await enqueue(app, send.job(1), way, connection)
    left = await connection.fetchval("SELECT expires_at - clock_timestamp() FROM rowlock.unique_key")
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    await app.worker().drain()
    assert (await first.get()).state == "succeeded"
    second = await enqueue(app, send.job(2), way, connection)
    assert (second.id, second.is_duplicate) == (first.id, True)

    await run_out(connection)
    third = await enqueue(app, send.job(3), way, connection)
    assert not third.is_duplicate
    left = await connection.fetchval("SELECT expires_at - clock_timestamp() FROM rowlock.unique_key")
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_who_takes_over_an_expired_key_keeps_it_when_the_job_before_finishes(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    first = await send.using(unique=Unique("k", period=60)).enqueue()
    await run_out(connection)
    second = await send.using(unique="k", delay=60).enqueue()
    assert not second.is_duplicate
    assert await app.worker().drain() == 1
    assert (await first.get()).state == "succeeded"
    assert (await send.using(unique="k").enqueue()).id == second.id


async def test_a_rolled_back_takeover_leaves_the_key_to_whoever_waits_for_it(
    app: Rowlock, connection: Connection, settings: Settings
) -> None:
    rules = {"start": Unique("k", until="start"), "period": Unique("k", period=60)}
    for kind, unique in rules.items():
        task = app.task(name=kind, unique=unique)(_nothing)
        await task.enqueue()
        await connection.execute("UPDATE rowlock.job SET state = 'running', worker = $1", uuid7())
        await run_out(connection)
        takeover = connection.transaction()
        await takeover.start()
        gone = await task.using(connection=connection).enqueue()
        assert not gone.is_duplicate
        waiting = asyncio.create_task(task.enqueue())
        await eventually(
            lambda: connection.fetchval("SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        )
        await takeover.rollback()
        handle = await asyncio.wait_for(waiting, 10)
        assert (handle.is_duplicate, handle.id == gone.id) == (False, False), kind
        await connection.execute("TRUNCATE rowlock.job")


async def _nothing() -> None: ...


async def test_the_upkeep_forgets_keys_that_nobody_holds_and_no_others(
    app: Rowlock, connection: Connection, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task
    async def send() -> None: ...

    await connection.execute(
        "INSERT INTO rowlock.unique_key (key, job_id, expires_at) "
        "SELECT 'send:' || n, rowlock.uuid7(), now() - interval '1 s' FROM generate_series(1, 25) n"
    )
    await connection.execute(
        "INSERT INTO rowlock.unique_key (key, job_id, until_start) "
        "SELECT 'gone:' || n, rowlock.uuid7(), true FROM generate_series(1, 15) n"
    )
    await send.using(unique=Unique("later", period=60)).enqueue()
    await send.using(unique=Unique("waits", until="start")).enqueue()
    await send.using(unique="held").enqueue()
    await connection.execute(
        "INSERT INTO rowlock.idempotency_key (key_hash, fingerprint, expires_at) "
        "SELECT decode(to_hex(100 + n), 'hex'), '', now() + make_interval(secs => 10 * n) "
        "FROM generate_series(-20, 2) n WHERE n <> 0"
    )
    monkeypatch.setattr(keys, "BATCH", 10)
    control = ControlConnection(settings, await app.database.dsn(), purpose="test")
    try:
        async for _ in keys.forget_keys(control):
            pass
    finally:
        await control.close()
    assert {row["key"] for row in await connection.fetch("SELECT key FROM rowlock.unique_key")} == {
        "send:later",
        "send:waits",
        "send:held",
    }
    assert await connection.fetchval("SELECT count(*) FROM rowlock.idempotency_key") == 2


async def test_the_upkeep_waits_for_nobody_who_takes_over_a_key(app: Rowlock, connection: Connection) -> None:
    """What it found is another job's key by the time that it has the lock, or is locked: it stays either way."""

    @app.task
    async def send() -> None: ...

    unique = Unique("k", until="start")
    await connection.execute(
        "INSERT INTO rowlock.unique_key (key, job_id, until_start) VALUES ('send:k', $1, true)", uuid7()
    )
    async with connection.transaction():
        handle = await send.using(unique=unique, connection=connection).enqueue()
        rows = await asyncio.wait_for(app.database.run("forget_unique_keys", 10), 10)
        assert rows[0]["forgotten"] == 0
    assert (await app.database.run("forget_unique_keys", 10))[0]["forgotten"] == 0
    assert (await send.using(unique=unique).enqueue()).id == handle.id


async def test_a_worker_has_the_duty_to_forget_keys(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send() -> None: ...

    await connection.execute("INSERT INTO rowlock.unique_key VALUES ('old', rowlock.uuid7(), now() - interval '1 s')")
    async with app.worker():
        await eventually(
            lambda: connection.fetchval("SELECT NOT EXISTS (SELECT FROM rowlock.unique_key WHERE key = 'old')")
        )


@pytest.mark.parametrize("limit", ["expires", "deadline"])
@pytest.mark.parametrize("on_duplicate", get_args(OnDuplicate))
async def test_a_waiting_job_whose_time_is_over_holds_no_key_though_no_upkeep_has_ended_it(
    limit: str, on_duplicate: OnDuplicate, way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    unique = Unique("k", on_duplicate=on_duplicate)
    limited = send.using(unique=unique, expires=60) if limit == "expires" else send.using(unique=unique, deadline=60)
    first = await enqueue(app, limited.job(1), way, connection)
    await pass_time(connection)
    second = await enqueue(app, send.using(unique=unique).job(2), way, connection)
    assert not second.is_duplicate
    if on_duplicate in {"return", "replace"}:
        assert (await enqueue(app, send.using(unique=unique).job(3), way, connection)).id == second.id

    await connection.execute("UPDATE rowlock.duty SET set_at = now() - interval '1 day'")
    assert [one for one in await audits.audit(app.database) if one.count] == []
    ended = await connection.fetch(statement("end_overdue", "rowlock"), 10)
    assert [(row["id"], row["state"]) for row in ended] == [(first.id, "expired" if limit == "expires" else "failed")]
    assert await args_of(connection, second.id) == {"n": 3 if on_duplicate == "replace" else 2}
    assert await connection.fetchval("SELECT job_id FROM rowlock.unique_key") == second.id


async def test_of_many_jobs_with_one_key_whose_holder_s_time_is_over_the_first_is_stored(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    for key in ("a", "b"):
        await send.using(unique=key, expires=60).enqueue(0)
    await pass_time(connection)
    many = [send.using(unique=key).job(n) for n, key in enumerate("abab")]
    if way == "alone":
        handles = [await enqueue(app, job, way, connection) for job in many]
    else:
        handles = await app.enqueue_many(many, connection=or_own(connection if way == "insert" else None))
    assert [handle.id for handle in handles] == [many[0].id, many[1].id] * 2


async def test_a_period_is_held_by_a_job_whose_time_is_over_whether_upkeep_has_ended_it_or_not(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    unique = Unique("k", period=3600)
    first = await send.using(unique=unique, expires=60).enqueue()
    await pass_time(connection)
    assert (await send.using(unique=unique).enqueue()).id == first.id
    await connection.fetch(statement("end_overdue", "rowlock"), 10)
    assert (await send.using(unique=unique).enqueue()).id == first.id


async def test_a_job_that_is_put_back_takes_its_key_from_one_whose_time_is_over(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    first = await send.using(unique="k").enqueue()
    await app.cancel(first.id)
    await send.using(unique="k", expires=60).enqueue()
    await pass_time(connection)
    await app.retry(first.id)
    assert await connection.fetchval("SELECT job_id FROM rowlock.unique_key") == first.id


@pytest.mark.parametrize("commits", [True, False])
async def test_who_takes_the_key_of_a_job_whose_time_is_over_waits_for_a_claim_that_was_in_time(
    commits: bool,
    app: Rowlock,
    connection: Connection,
    settings: Settings,
) -> None:
    @app.task
    async def send() -> None: ...

    first = await send.using(unique="k", expires=60).enqueue()
    await register(connection)
    claimant = await asyncpg.connect(settings.database_url)
    try:
        claim = claimant.transaction()
        await claim.start()
        await pass_time(connection)
        await claimant.execute(
            "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now()", CLAIMANT
        )
        second = asyncio.create_task(send.using(unique="k").enqueue())
        await eventually(
            lambda: connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%enqueue%')"
            )
        )
        await (claim.commit() if commits else claim.rollback())
        assert ((await second).id == first.id) is commits
    finally:
        await claimant.close()


async def test_no_claim_that_began_in_time_starts_a_job_whose_key_another_has_taken(
    app: Rowlock, connection: Connection, settings: Settings
) -> None:
    @app.task
    async def send() -> None: ...

    first = await send.using(unique="k", expires=60).enqueue()
    claimant = await asyncpg.connect(settings.database_url)
    try:
        async with claimant.transaction():
            began = await claimant.fetchval("SELECT now()")
            await connection.execute(
                "UPDATE rowlock.job SET ends_at = $1, expires_at = $1", began + timedelta(seconds=1e-6)
            )
            assert not (await send.using(unique="k").enqueue()).is_duplicate
            can_start = "SELECT EXISTS (SELECT FROM rowlock.job WHERE id = $1 AND ends_at > now())"
            assert not await claimant.fetchval(can_start, first.id)
    finally:
        await claimant.close()


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
        with pytest.raises(InvalidOption, match="by 'subject': the arguments of send have none of this name"):
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


# From SQL.


async def sql(connection: Connection, **options: object) -> UUID:
    named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 1))
    job_id: UUID = await connection.fetchval(f"SELECT rowlock.enqueue('send'{named})", *options.values())
    return job_id


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
        await app.cancel(job.id)
        await run_out(connection)
        if has_come_by:
            assert await connection.fetchval(statement("forget_unique_keys", "rowlock"), 10) == 1
        await app.retry(job.id)
        assert (await send.enqueue()).id == job.id
        await app.cancel(job.id)


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
        ({"unique_period": timedelta(0)}, "unique_period .* makes no sense"),
        ({"unique_period": timedelta(seconds=-1)}, "unique_period .* makes no sense"),
        ({"unique_period": timedelta(days=40_000)}, "unique_period .* makes no sense"),
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
