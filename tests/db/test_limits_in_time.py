"""Jobs whose time runs out: `expires`, `deadline`, and a cancel that was asked for while the job ran."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import asyncpg
import pytest

from rowlock import InvalidOption, Job, JobFailed, JobHandle, Retry, Rowlock, Settings
from rowlock.queue.connect.drivers import or_own
from rowlock.queue.enqueue.task import Task
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

PAST = datetime(2001, 1, 1, tzinfo=UTC)


@pytest.fixture
def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Duties come by many times a second."""
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.02)
    return Settings(database_url=database_url)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
async def often(connection: Connection) -> None:
    await connection.execute("UPDATE rowlock.duty SET every = '20 ms' WHERE name = 'overdue'")


async def store(
    app: Rowlock, task: Task[[], Any], way: str, connection: Connection, options: dict[str, Any]
) -> JobHandle[Any]:
    if way == "single":
        return await task.using(**options).enqueue()
    job = task.using(**options).job()
    return (await app.enqueue_many([job], connection=or_own(connection if way == "insert" else None)))[0]


@pytest.mark.parametrize("way", ["single", "copy", "insert"])
async def test_both_limits_are_stored_from_the_enqueue_on_or_as_given(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    moment = datetime(2999, 1, 1, tzinfo=UTC)
    for options, expires, deadline in (
        ({"expires": 60}, timedelta(seconds=60), None),
        ({"deadline": timedelta(hours=1)}, None, timedelta(hours=1)),
        ({"expires": 60, "deadline": moment}, timedelta(seconds=60), moment),
        ({"delay": 30, "expires": moment, "deadline": 60}, moment, timedelta(seconds=60)),
    ):
        handle = await store(app, work, way, connection, options)
        row = await connection.fetchrow("SELECT * FROM rowlock.job WHERE id = $1", handle.id)
        assert row is not None
        for column, wanted in (("expires_at", expires), ("deadline", deadline)):
            if isinstance(wanted, timedelta):
                assert abs(row[column] - row["created_at"] - wanted) < timedelta(seconds=1)
            else:
                assert row[column] == wanted
        assert row["ends_at"] == min(limit for limit in (row["expires_at"], row["deadline"]) if limit)
        job = await app.get(handle.id)
        assert (job.expires_at, job.deadline) == (row["expires_at"], row["deadline"])


@pytest.mark.parametrize("way", ["single", "copy", "insert"])
async def test_a_job_that_would_be_over_before_it_is_due_is_refused(
    way: str, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    for option, name in (("expires", "expires_at"), ("deadline", "deadline")):
        with pytest.raises(InvalidOption, match=option):
            await store(app, work, way, connection, {"delay": 60, option: timedelta(seconds=60)})
        with pytest.raises(asyncpg.InvalidParameterValueError, match=option):
            await connection.execute(f"SELECT rowlock.enqueue('work', delay => '90 s', {name} => now() + '60 s')")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


@pytest.mark.parametrize("value", [0, -1, "soon", timedelta(0), datetime(2999, 1, 1), True])  # noqa: DTZ001  # that is it
def test_a_limit_that_makes_no_sense_is_refused_by_name(value: object, app: Rowlock) -> None:
    @app.task
    async def work() -> None: ...

    for option in ("expires", "deadline"):
        with pytest.raises(InvalidOption, match=option):
            work.using(**cast("Any", {option: value}))


@pytest.mark.usefixtures("often")
async def test_a_job_that_has_not_started_when_it_expires_never_runs(app: Rowlock, connection: Connection) -> None:
    ran: list[str] = []

    @app.task
    async def hold(seconds: float) -> None:
        await asyncio.sleep(seconds)

    @app.task
    async def work(name: str) -> None:
        ran.append(name)

    async with app.worker(concurrency=1):
        first = await hold.enqueue(0.5)
        late = await work.using(expires=0.2, unique="k").enqueue("late")
        in_time = await work.using(expires=60).enqueue("in time")
        await in_time.result(timeout=10)
        with pytest.raises(JobFailed, match="had not started when it expired"):
            await late.result(timeout=10)
        await first.result(timeout=10)
    assert ran == ["in time"]
    job = await app.get(late.id)
    assert (job.state, job.attempt) == ("expired", 0)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0, "its key is free again"


async def test_a_drain_ends_what_is_over_and_does_not_claim_it(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.using(expires=60).enqueue()
    await connection.execute("UPDATE rowlock.job SET ends_at = now() - interval '1 s'")
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'overdue'")
    assert await app.worker().drain() == 0
    ended = await app.get(handle.id)
    assert (ended.state, ended.attempt) == ("expired", 0)


async def test_a_claimed_job_that_expires_before_its_slot_is_free_is_given_back_unstarted(
    app: Rowlock, connection: Connection
) -> None:
    ran: list[int] = []

    @app.task
    async def work(n: int) -> None:
        ran.append(n)
        await asyncio.sleep(0.02)

    # Fast jobs first, so that the worker claims ahead of its one slot.
    await app.enqueue_many([work.job(n) for n in range(20)])
    handles = await app.enqueue_many([work.using(expires=0.3).job(n) for n in range(100, 140)])
    async with app.worker(concurrency=1):
        await eventually(lambda: is_over(connection), timeout=20)
    states = {handle.id: (await app.get(handle.id)).state for handle in handles}
    assert set(states.values()) <= {"succeeded", "expired"}
    assert "expired" in states.values()
    assert len(ran) == 20 + list(states.values()).count("succeeded")


async def is_over(connection: Connection) -> bool:
    return not await connection.fetchval("SELECT count(*) FROM rowlock.job")


@pytest.mark.usefixtures("often")
async def test_the_deadline_cuts_the_attempt_and_ends_the_retries(app: Rowlock, connection: Connection) -> None:
    attempts: list[int] = []

    @app.task(max_attempts=100, backoff=0.05)
    async def never(n: int) -> None:
        attempts.append(n)
        await asyncio.sleep(30)

    @app.task(max_attempts=100, backoff=60)
    async def hopeless() -> None:
        raise OSError("no route to host")

    async with app.worker():
        cut = await never.using(deadline=0.8).enqueue(1)
        waits = await hopeless.using(deadline=0.8).enqueue()
        for handle, why in ((cut, "deadline passed"), (waits, "no route to host")):
            with pytest.raises(JobFailed, match=why):
                await handle.result(timeout=10)
            job = await app.get(handle.id)
            assert job.state == "failed"
            assert "deadline passed" in str(job.error)
    assert attempts == [1]
    outcomes = await connection.fetch("SELECT outcome FROM rowlock.attempt WHERE job_id = $1", cut.id)
    assert [row["outcome"] for row in outcomes] == ["timeout"]


async def test_once_it_has_started_a_job_does_not_expire(app: Rowlock) -> None:
    @app.task
    async def work() -> str:
        if not started:
            started.append(1)
            raise Retry(1)
        return "done"

    started: list[int] = []
    async with app.worker():
        handle = await work.using(expires=0.8).enqueue()
        assert await handle.result(timeout=10) == "done"


async def test_a_job_whose_cancel_was_asked_for_while_it_ran_does_not_run_again(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None:
        await connection.execute("UPDATE rowlock.job SET cancel_requested_at = now(), ends_at = '-infinity'")
        raise OSError("in the middle")

    handle = await work.enqueue()
    assert await app.worker().drain() == 1
    assert (await app.get(handle.id)).state == "cancelled"


async def test_the_handlers_job_knows_its_limits(app: Rowlock) -> None:
    seen: list[Job] = []

    @app.task
    async def work(job: Job) -> None:
        seen.append(job)

    handle = await work.using(expires=60, deadline=120).enqueue()
    await work.enqueue()
    stored = await app.get(handle.id)
    await app.worker().drain()
    assert {(job.expires_at, job.deadline) for job in seen} == {(stored.expires_at, stored.deadline), (None, None)}


async def test_a_job_that_has_begun_and_is_released_at_a_stop_does_not_expire(
    settings: Settings, connection: Connection
) -> None:
    async with Rowlock(settings=replace(settings, grace_period=timedelta(0))) as app:
        began = asyncio.Event()

        @app.task
        async def work() -> None:
            began.set()
            await asyncio.Event().wait()

        async with app.worker():
            handle = await work.using(expires=60).enqueue()
            await began.wait()
        row = await connection.fetchrow("SELECT state, expires_at, ends_at FROM rowlock.job WHERE id = $1", handle.id)
    assert row is not None
    assert (row["state"], row["ends_at"]) == ("queued", None)
    assert row["expires_at"] is not None


@pytest.mark.parametrize("what", ["a lock in the database", "a handler that blocks the loop"])
async def test_a_job_whose_deadline_passes_between_its_claim_and_the_answer_does_not_start(
    what: str, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, asked = list[int](), list[int]()
    overdue = "UPDATE rowlock.duty SET next_run_at = now() + $1::interval WHERE name = 'overdue'"
    await connection.execute(overdue, timedelta(hours=1))  # the duty must not end the job before its claim takes it
    is_there = "SELECT EXISTS (SELECT FROM rowlock.job WHERE state = 'queued' AND ends_at > now() + interval '0.3 s')"

    @app.task
    async def work() -> None:
        calls.append(1)

    async with app.worker() as worker:
        claim = worker._shift.claims.claim

        async def late(*given: Any, **options: Any) -> list[Any]:  # noqa: ANN401  # of Claims.claim
            if what == "a lock in the database" and await connection.fetchval(is_there):
                async with connection.transaction():
                    await connection.execute("LOCK TABLE rowlock.job IN SHARE ROW EXCLUSIVE MODE")
                    asking = asyncio.create_task(claim(*given, **options))
                    await connection.execute("SELECT pg_sleep(1)")
                rows = await asking
            else:
                rows = await claim(*given, **options)
                if rows:
                    time.sleep(1)  # noqa: ASYNC251  # the answer is there, and nobody looks
            asked.append(len(rows))
            if rows:
                await connection.execute(overdue, timedelta(0))
            return rows

        await eventually(lambda: worker._shift.figures.counts.claims)  # preparing the statement would wait for the lock
        monkeypatch.setattr(worker._shift.claims, "claim", late)
        handle = await work.using(deadline=0.8).enqueue()
        with pytest.raises(JobFailed):
            await handle.result(timeout=20)
    assert (calls, sum(asked)) == ([], 1), "it was claimed in time, and the answer came too late"
