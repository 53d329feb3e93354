"""How long a unique key is held, and by whom: until the start, for a period, or until its job's time is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, get_args

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings, Snooze, Unique
from rowlock.queue.connect.drivers import or_own
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.unique import OnDuplicate, Until
from rowlock.queue.read import audits
from rowlock.worker.duties import keys
from tests.db.claimants import CLAIMANT, register
from tests.db.unique_keys import args_of, enqueue, pass_time, run_out
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
    await app.jobs.cancel(first.id)
    await send.using(unique="k", expires=60).enqueue()
    await pass_time(connection)
    await app.jobs.retry(first.id)
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
