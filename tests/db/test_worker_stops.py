"""The end of a worker: its jobs finish or are given back, and a start that fails says why."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, Job, Rowlock, RowlockError, SchemaNotMigrated, SchemaTooNew, Settings
from tests.db.rows import attempts_of, row_of, states
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


SOON = timedelta(milliseconds=50)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=SOON)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_a_worker_that_stops_lets_its_jobs_finish(app: Rowlock, connection: Connection) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def long() -> str:
        began.set()
        await go.wait()
        return "finished"

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop()
    late = await long.enqueue()
    go.set()
    await asyncio.wait_for(running, 10)
    row = await row_of(connection, handle.id)
    assert (row["state"], row["result"], row["attempt"]) == ("succeeded", '"finished"', 1)
    assert await attempts_of(connection, handle.id) == []
    assert (await row_of(connection, late.id))["state"] == "queued", "it claims no more"


async def test_what_is_not_done_after_the_grace_is_given_back_and_runs_elsewhere(
    app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @app.task(max_attempts=1)
    async def long(job: Job) -> int:
        began.set()
        if job.attempt == 1:
            await asyncio.Event().wait()
        return job.attempt

    handle = await long.using(unique="k").enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    with capture_logs() as logs:
        worker.stop(grace=0)
        await asyncio.wait_for(running, 10)
    (entry,) = [entry for entry in logs if entry["event"] == "job_given_back"]
    assert (entry["job_id"], entry["attempt"], entry["why"]) == (str(handle.id), 1, "shutdown")
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"], row["crashes"]) == ("queued", 1, 0, 0)
    assert row["error"] is None
    [told] = await attempts_of(connection, handle.id)
    assert (told["outcome"], told["attempt"], told["error_type"]) == ("released", 1, None)
    assert (await long.using(unique="k").enqueue()).id == handle.id, "it still holds its key"
    await app.worker().drain()
    assert await handle.result(timeout=5) == 2


async def test_the_grace_can_be_cut_short_while_it_runs(app: Rowlock, connection: Connection) -> None:
    began = asyncio.Event()

    @app.task
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=60)
    done, _ = await asyncio.wait([running], timeout=1.5)
    assert not done, "the grace was given"
    worker.stop(grace=0)
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["state"] == "queued"


async def test_a_worker_that_stops_gives_back_what_it_claimed_ahead(app: Rowlock, connection: Connection) -> None:
    is_slow = False
    held = asyncio.Event()

    @app.task
    async def work(n: int) -> None:
        if is_slow:
            held.set()
            await asyncio.Event().wait()
        if n == 1000:
            turn()

    def turn() -> None:
        nonlocal is_slow
        is_slow = True

    await app.enqueue_many([work.job(n) for n in range(3000)])
    worker = app.worker(concurrency=2)
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(held.wait(), 30)
    worker.stop(grace=0)
    await asyncio.wait_for(running, 10)
    seen = await states(connection)
    assert set(seen) == {"succeeded", "queued"}
    assert sum(seen.values()) == 3000
    released = await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome = 'released'")
    assert released > 2, "some had been claimed ahead"
    assert await connection.fetchval("SELECT max(errors) + max(crashes) FROM rowlock.job") == 0
    is_slow = False
    await app.worker().drain()
    assert await states(connection) == {"succeeded": 3000}


async def test_a_handler_that_ignores_being_cancelled_does_not_hold_up_the_stop(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.shift.LAST_SECONDS", 0.1)
    began, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def stubborn(job: Job) -> str:
        began.set()
        while job.attempt == 1 and not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return f"attempt {job.attempt}"

    handle = await stubborn.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=0)
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["state"] == "queued"
    await app.worker().drain()
    go.set()  # the first attempt ends now, and nobody listens
    assert await handle.result(timeout=5) == "attempt 2"


async def test_a_handler_that_finishes_when_cancelled_at_the_stop_has_finished(
    app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @app.task
    async def thrifty() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    handle = await thrifty.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=0)
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["result"] == '"saved"'


async def test_a_worker_that_was_never_opened_says_that_it_has_no_id_and_no_delays_yet(app: Rowlock) -> None:
    worker = app.worker()
    for ask in (lambda: worker.id, lambda: worker.loop_delay, lambda: worker.loop_delay_max):
        with pytest.raises(RowlockError, match=r"has not started.*Call run\(\)"):
            ask()
    assert not worker.is_leased
    assert not worker.has_leftover_threads
    assert worker.figures is None


async def test_a_plain_function_that_goes_on_after_the_stop_is_given_back_and_reported(
    app: Rowlock, connection: Connection
) -> None:
    began, go = threading.Event(), threading.Event()

    @app.task
    def long(job: Job) -> int:
        began.set()
        if job.attempt == 1:
            go.wait(20)
        return job.attempt

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    try:
        await eventually(began.is_set)
        worker.stop(grace=0)
        await asyncio.wait_for(running, 10)
        assert worker.has_leftover_threads
        assert (await row_of(connection, handle.id))["state"] == "queued"
        async with worker:
            assert await handle.result(timeout=10) == 2
            assert worker.has_leftover_threads, "from before it was opened again"
        assert worker.has_leftover_threads
    finally:
        go.set()
    await eventually(lambda: not worker.has_leftover_threads)


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_a_worker_in_a_block_works_as_long_as_the_block(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def quick() -> int:
        return 1

    async with app.worker() as worker:
        assert await (await quick.enqueue()).result(timeout=10) == 1
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE id = $1", worker.id) == 1
    handle = await quick.enqueue()
    assert (await handle.get()).state == "queued"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > now()") == 0

    async def are_gone() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ $1"
        left: int = await connection.fetchval(query, "^rowlock (attention|claim|finish|upkeep|lease)")
        return left == 0

    await eventually(are_gone)


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_a_worker_that_loses_the_database_while_it_starts_says_so_and_lets_go(
    app: Rowlock, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: object, **__: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    monkeypatch.setattr("rowlock.worker.vitals.lease.Lease.begin", lose)
    with pytest.raises(DatabaseUnavailable, match="cannot switch to state 12"):
        await app.worker().run(handle_signals=False)
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowlock claim'"
    await eventually(lambda: _is_zero(connection, left))


async def _is_zero(connection: asyncpg.Connection, query: str) -> bool:
    found: int = await connection.fetchval(query)
    return found == 0


async def test_a_worker_says_why_it_cannot_start(empty_database_url: str, settings: Settings) -> None:
    async with Rowlock(settings=Settings(database_url="postgresql://u:secret@127.0.0.1:1/none")) as app:
        with pytest.raises(DatabaseUnavailable, match="check that the server runs"):
            await app.worker().run(handle_signals=False)
    async with Rowlock(settings=Settings(database_url=empty_database_url)) as app:
        with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
            await app.worker().run(handle_signals=False)
        with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
            await app.worker().drain()
    changing = await asyncpg.connect(settings.database_url)
    await changing.execute("UPDATE rowlock.rowlock_version SET version_num = '9999'")
    await changing.close()
    async with Rowlock(settings=settings) as app:
        with pytest.raises(SchemaTooNew, match="upgrade"):
            await app.worker().run(handle_signals=False)
