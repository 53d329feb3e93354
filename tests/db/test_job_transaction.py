"""Exactly-once effects: a handler's own writes and the success of its job are committed together, or not at all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from rowlock import InvalidOption, InvalidResult, Job, OutsideHandler, Rowlock, Settings, StaleAttempt
from rowlock.queue.finish import transaction
from rowlock.queue.read.pages import list_jobs
from rowlock.queue.read.reader import list_attempts
from tests.db.callers import engine_for
from tests.db.stale import take_away
from tests.logged import capture_logs

if TYPE_CHECKING:
    from rowlock import JobHandle

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))


@pytest.fixture
async def app(settings: Settings, connection: Connection) -> AsyncIterator[Rowlock]:
    await connection.execute("CREATE TABLE payment (job uuid, amount integer NOT NULL CHECK (amount > 0))")
    async with Rowlock(settings=settings) as opened:
        yield opened


PAY = "INSERT INTO payment (job, amount) VALUES ($1, $2)"


async def payments(connection: Connection) -> int:
    return int(await connection.fetchval("SELECT count(*) FROM payment"))


async def outcomes(app: Rowlock, handle: JobHandle[Any]) -> tuple[str, int, list[str]]:
    job = await app.get(handle.id)
    return job.state, job.attempt, [attempt["outcome"] for attempt in await list_attempts(app.database, job.id)]


async def test_effects_and_success_become_visible_together(app: Rowlock, connection: Connection) -> None:
    seen: list[tuple[int, str]] = []

    @app.task
    async def pay(job: Job, amount: int) -> str:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, amount)
            job.set_result({"paid": amount})
            seen.append((await payments(connection), (await app.get(job.id)).state))
        seen.append((await payments(connection), (await app.get(job.id)).state))
        return "not this"

    handle = await pay.enqueue(5)
    worker = app.worker()
    await worker.drain()
    assert seen == [(0, "running"), (1, "succeeded")]
    job = await app.get(handle.id)
    assert (job.result, job.attempt) == ({"paid": 5}, 1)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at


async def test_times_are_those_of_the_end_and_not_of_the_begin_of_the_transaction(app: Rowlock) -> None:
    @app.task
    async def slow(job: Job) -> float:
        async with job.transaction() as own:
            await own.execute("SELECT pg_sleep(0.3)")
        return 0

    handle = await slow.enqueue()
    await app.worker().drain()
    job = await app.get(handle.id)
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.finished_at - job.started_at >= timedelta(seconds=0.3)
    assert job.started_at >= job.created_at


async def test_an_error_in_the_block_undoes_it_and_is_an_ordinary_error(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=3, backoff=0)
    async def pay(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
            if job.attempt < 3:
                raise ValueError("not yet")

    handle = await pay.enqueue()
    await app.worker().drain()
    assert await outcomes(app, handle) == ("succeeded", 3, ["error", "error"])
    assert await payments(connection) == 1


async def test_an_error_of_the_database_undoes_it_too(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
            with contextlib.suppress(asyncpg.CheckViolationError):
                await own.execute(PAY, job.id, -5)

    handle = await pay.enqueue()
    await app.worker().drain()
    assert await outcomes(app, handle) == ("failed", 1, ["error"])
    assert await payments(connection) == 0


async def test_an_error_after_the_commit_is_only_logged(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=5, backoff=0, timeout=1)
    async def pay(job: Job, how: str) -> None:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
        if how == "raises":
            raise ValueError("too late")
        await asyncio.sleep(60)

    handles = [await pay.enqueue("raises"), await pay.enqueue("hangs")]
    with capture_logs() as events:
        await app.worker().drain()
    for handle in handles:
        assert await outcomes(app, handle) == ("succeeded", 1, [])
    assert await payments(connection) == 2
    assert [event["event"] for event in events].count("handler_failed_after_commit") == 2
    assert "finish_refused" not in [event["event"] for event in events]


async def test_a_stale_attempt_cannot_commit(app: Rowlock, connection: Connection) -> None:
    caught: list[StaleAttempt] = []

    @app.task
    async def pay(job: Job) -> None:
        with pytest.raises(StaleAttempt, match="has lost its job") as found:  # noqa: PT012  # the block's end raises
            async with job.transaction() as own:
                await own.execute(PAY, job.id, 5)
                await take_away(connection, job.id)
        caught.append(found.value)
        raise found.value

    handle = await pay.enqueue()
    with capture_logs() as events:
        await app.worker().drain()
    assert len(caught) == 1
    assert await payments(connection) == 0
    assert (await app.get(handle.id)).state == "running", "for its new worker"
    assert "finish_refused" in [event["event"] for event in events]


async def test_there_is_one_transaction_an_attempt_and_none_inside_of_it(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
            with pytest.raises(InvalidOption, match="Put all statements into one block"):
                async with job.transaction():
                    pass
        with pytest.raises(InvalidOption, match="Put all statements into one block"):
            async with job.transaction():
                pass
        with pytest.raises(OutsideHandler, match="inside the block"):
            job.set_result(1)

    handle = await pay.enqueue()
    with capture_logs() as events:
        await app.worker().drain()
    assert await outcomes(app, handle) == ("succeeded", 1, [])
    assert "handler_failed_after_commit" not in [event["event"] for event in events]


async def test_a_transaction_that_was_rolled_back_may_be_tried_again(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        for amount in (-5, 5):
            with contextlib.suppress(asyncpg.CheckViolationError):
                async with job.transaction() as own:
                    await own.execute(PAY, job.id, amount)

    handle = await pay.enqueue()
    await app.worker().drain()
    assert await outcomes(app, handle) == ("succeeded", 1, [])
    assert await payments(connection) == 1


async def test_what_a_handler_returns_beside_its_transaction_is_told_to_be_lost(app: Rowlock) -> None:
    @app.task
    async def told(job: Job, *, sets: bool) -> str | None:
        async with job.transaction():
            if sets:
                job.set_result("this")
            return "not this"

    @app.task
    async def silent(job: Job) -> None:
        async with job.transaction():
            pass

    lost = await told.enqueue(sets=False)
    await told.enqueue(sets=True)
    await silent.enqueue()
    with capture_logs() as events:
        await app.worker().drain()
    (event,) = [event for event in events if event["event"] == "result_not_stored"]
    assert event["job_id"] == str(lost.id)
    assert "set_result" in event["why"]
    assert "not this" not in str(event)


async def test_a_commit_inside_the_block_is_refused(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute("ROLLBACK")

    handle = await pay.enqueue()
    await app.worker().drain()
    job = await app.get(handle.id)
    assert job.state == "failed"
    assert job.error is not None
    assert "was ended inside its block" in job.error


async def test_a_result_that_cannot_be_stored_undoes_it(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        with pytest.raises(OutsideHandler, match="inside the block"):
            job.set_result(1)
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
            job.set_result(object())

    handle = await pay.enqueue()
    await app.worker().drain()
    job = await app.get(handle.id)
    assert job.state == "failed"
    assert job.error is not None
    assert job.error.startswith(InvalidResult.__name__)
    assert await payments(connection) == 0


async def test_more_transactions_than_connections_wait_for_each_other(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def follow_up() -> None: ...

    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        async with job.transaction() as own:
            await own.execute(PAY, job.id, 5)
            await follow_up.enqueue()  # by a connection of the application's: there must be one left
            await follow_up.using(connection=own).enqueue()

    await app.enqueue_many([pay.job() for _ in range(40)])
    assert await app.worker(concurrency=40).drain() == 120
    assert await payments(connection) == 40
    assert {job.state for job in await list_jobs(app.database, limit=500)} == {"succeeded"}


async def test_what_was_reported_before_the_commit_is_kept(app: Rowlock) -> None:
    @app.task(capture_logs=True)
    async def pay(job: Job) -> None:
        await job.progress(0.1)
        async with job.transaction():
            await job.progress(0.9)
        await job.progress(1)  # the job is over: this goes nowhere
        structlog.get_logger().error("after")

    handle = await pay.enqueue()
    await app.worker().drain()
    told = (await handle.get()).last_progress
    assert told is not None
    assert told.fraction == 0.9
    assert [line.text for line in await handle.logs()] == ["after"]


# A commit whose answer is lost.


@pytest.mark.parametrize("took_place", [True, False])
@pytest.mark.parametrize("handler", ["raises", "swallows", "times out"])
async def test_a_commit_without_an_answer_counts_if_and_only_if_it_took_place(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch, took_place: bool, handler: str
) -> None:
    commit = transaction._OfAsyncpg.commit
    lost: list[bool] = []

    async def lose(self: transaction._OfAsyncpg) -> None:
        if lost:
            await commit(self)
            return
        lost.append(True)
        if took_place:
            await commit(self)
        else:
            self.given.terminate()
        if handler == "times out":
            await asyncio.sleep(60)
        raise ConnectionResetError("the answer is lost")

    monkeypatch.setattr(transaction._OfAsyncpg, "commit", lose)

    @app.task(max_attempts=3, backoff=0, timeout=1)
    async def pay(job: Job) -> None:
        try:
            async with job.transaction() as own:
                await own.execute(PAY, job.id, 5)
        except ConnectionResetError:
            if handler != "swallows":
                raise

    handle = await pay.enqueue()
    with capture_logs() as events:
        await app.worker().drain()
    assert "transaction_outcome_unknown" in [event["event"] for event in events]
    assert await payments(connection) == 1
    outcome = "timeout" if handler == "times out" else "error"
    expected = ("succeeded", 1, []) if took_place else ("succeeded", 2, [outcome])
    assert await outcomes(app, handle) == expected


# Connections that are given.


async def test_a_connection_of_the_callers_own_is_taken(
    app: Rowlock, connection: Connection, database_url: str
) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        given = await asyncpg.connect(database_url)
        async with given.transaction():
            with pytest.raises(InvalidOption, match="in a transaction already"):
                async with job.transaction(given):
                    pass
        async with job.transaction(given) as own:
            assert own is given
            await own.execute(PAY, job.id, 5)
        await given.close()

    handle = await pay.enqueue()
    await app.worker().drain()
    assert await outcomes(app, handle) == ("succeeded", 1, [])
    assert await payments(connection) == 1


async def test_a_connection_of_sqlalchemy_in_autocommit_is_refused_before_anything_is_done(
    app: Rowlock, connection: Connection, database_url: str
) -> None:
    engine = engine_for(database_url).execution_options(isolation_level="AUTOCOMMIT")
    done: list[str] = []

    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        async with engine.connect() as automatic, job.transaction(automatic):
            done.append("the block began")

    handle = await pay.enqueue()
    await app.worker().drain()
    await engine.dispose()
    job = await app.get(handle.id)
    assert (job.state, done) == ("failed", [])
    assert "AUTOCOMMIT" in str(job.error)


@pytest.mark.parametrize("given", [object(), "postgresql://nowhere", 7])
async def test_what_is_no_connection_is_refused(app: Rowlock, given: object) -> None:
    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        with pytest.raises(InvalidOption, match="connection must be one of asyncpg"):
            async with job.transaction(given):
                pass

    handle = await pay.enqueue()
    await app.worker().drain()
    assert (await app.get(handle.id)).state == "succeeded"


@pytest.mark.parametrize("kind", ["session", "connection"])
@pytest.mark.parametrize("is_begun", [True, False])
async def test_sqlalchemy_commits_with_the_success(
    app: Rowlock, connection: Connection, database_url: str, kind: str, is_begun: bool
) -> None:
    engine = engine_for(database_url)

    @app.task(max_attempts=2, backoff=0)
    async def pay(job: Job) -> None:
        async with AsyncSession(engine) if kind == "session" else engine.connect() as given:
            insert = text("INSERT INTO payment (job, amount) VALUES (:job, 5)").bindparams(job=job.id)
            if is_begun:
                await given.execute(insert)
            async with job.transaction(given) as own:
                assert own is given
                if not is_begun:
                    await own.execute(insert)
                job.set_result(job.attempt)
                assert await payments(connection) == 0
                if job.attempt == 1:
                    raise ValueError("not yet")

    handle = await pay.enqueue()
    await app.worker().drain()
    await engine.dispose()
    assert await outcomes(app, handle) == ("succeeded", 2, ["error"])
    assert (await app.get(handle.id)).result == 2
    assert await payments(connection) == 1


@pytest.mark.parametrize("kind", ["session", "connection"])
async def test_a_stale_attempt_of_sqlalchemy_cannot_commit_nor_one_whose_transaction_was_ended(
    app: Rowlock, connection: Connection, database_url: str, kind: str
) -> None:
    engine = engine_for(database_url)
    pay_now = text("INSERT INTO payment (amount) VALUES (5)")

    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        given: Any
        async with AsyncSession(engine) if kind == "session" else engine.connect() as given:
            with pytest.raises(InvalidOption, match="was ended inside"):  # noqa: PT012  # the block's end raises
                async with job.transaction(given) as own:
                    await own.rollback()
                    await own.execute(pay_now)
            with pytest.raises(StaleAttempt):  # noqa: PT012  # the block's end raises
                async with job.transaction(given) as own:
                    await own.execute(pay_now)
                    await take_away(connection, job.id)
            assert isinstance(given, AsyncSession | AsyncConnection)

    await pay.enqueue()
    await app.worker().drain()
    await engine.dispose()
    assert await payments(connection) == 0
