"""Workers whose link to the database is cut, stopped, slowed down or closed."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, EnqueueUnknown, Job, Rowlock, Settings, Task
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect import server_errors, sessions
from rowlock.queue.finish.transaction import begun
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.new_job import NewJob
from rowlock.worker.worker import Worker
from tests.db.links import Link, linked
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Server

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def link(server: Server, database_url: str) -> AsyncIterator[Link]:
    async with linked(server, database_url) as link:
        yield link


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))


@pytest.fixture
async def far(settings: Settings, link: Link) -> AsyncIterator[Rowlock]:
    """An application at the other end of the link, whose workers' leases are short."""
    brief = replace(settings, database_url=link.url, lease=timedelta(seconds=1.5), heartbeat=timedelta(seconds=0.25))
    async with Rowlock(settings=brief) as app:
        yield app


@pytest.fixture
async def near(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


# The lease.


async def end_of_lease(connection: Connection, worker: Worker) -> float:
    """The monotonic time at which the worker's lease ends, as the database has it; a little earlier, never later."""
    asked_at = time.monotonic()
    expires_in = "SELECT extract(epoch FROM expires_at - clock_timestamp())::float8 FROM rowlock.worker WHERE id = $1"
    left: float = await connection.fetchval(expires_in, worker.id)
    return asked_at + left


async def test_a_worker_behind_a_link_that_swallows_all_stops_its_handlers_before_another_one_has_their_jobs(
    far: Rowlock, near: Rowlock, link: Link, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 1.0)
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT", 1.0)
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.05)
    await connection.execute("UPDATE rowlock.duty SET every = '50 ms' WHERE name = 'rescue'")
    seen: list[tuple[str, float]] = []
    began = asyncio.Event()

    @far.task(name="work")
    async def hang() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            seen.append(("cancelled", time.monotonic()))

    @near.task(name="work")
    async def work(job: Job) -> int:
        seen.append(("began elsewhere", time.monotonic()))
        return job.crashes

    async with far.worker() as worker:
        first = worker.id
        handle = await hang.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        link.swallows = True
        expires_at = await end_of_lease(connection, worker)
        async with near.worker():
            assert await near.handle(await near.get(handle.id)).result(timeout=10) == 1
        assert [what for what, _ in seen] == ["cancelled", "began elsewhere"]
        (_, cancelled_at), (_, began_at) = seen
        assert cancelled_at < expires_at <= began_at
        link.swallows = False
        await eventually(lambda: worker.id != first)
        began.clear()
        await hang.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        worker.stop(0)


async def test_a_lease_outlives_connections_that_are_lost_without_a_word(
    far: Rowlock, near: Rowlock, link: Link, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 0.3)
    monkeypatch.setattr(sessions, "LONG_QUERY_TIMEOUT", 0.3)
    goes_on = asyncio.Event()

    @far.task
    async def work(job: Job) -> int:
        await goes_on.wait()
        return job.attempt

    async with far.worker() as worker:
        first = worker.id
        handle = await work.enqueue()
        is_running = "SELECT EXISTS (SELECT FROM rowlock.job WHERE state = 'running')"
        await eventually(lambda: connection.fetchval(is_running))
        link.lose()
        before = await connection.fetchval("SELECT expires_at FROM rowlock.worker")
        # Renewed a lease later, it has found a connection of its own.
        is_renewed = "SELECT expires_at > $1::timestamptz + interval '1.5 s' FROM rowlock.worker"
        await eventually(lambda: connection.fetchval(is_renewed, before))
        goes_on.set()
        assert await near.handle(await near.get(handle.id)).result(timeout=10) == 1
        assert worker.id == first


async def test_nothing_begins_in_a_worker_that_has_slept_past_the_end_of_its_lease(
    near: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    @near.task
    async def work(job: Job) -> int:
        return job.attempt

    claim = Claims.claim
    slept: list[UUID] = []

    async def claim_and_sleep(
        self: Claims, by: UUID, limit: int, limits: dict[str, int], *, looks_ahead: bool
    ) -> list[asyncpg.Record]:
        rows = await claim(self, by, limit, limits, looks_ahead=looks_ahead)
        if rows and not slept:  # as a process has it that was stopped after its claim, and goes on
            slept.append(by)
            worker._shift.lease.held_until = 0.0
        return rows

    monkeypatch.setattr(Claims, "claim", claim_and_sleep)
    async with near.worker() as worker:
        handle = await work.enqueue()
        assert await handle.result(timeout=20) == 2, "the first attempt was given back"
        job = await handle.get()
        assert (job.crashes, job.errors) == (0, 0)


async def test_a_handler_inside_of_its_transaction_ends_before_the_lease_too(
    far: Rowlock, link: Link, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connect.pool.RELEASE_TIMEOUT", "finish.transaction.ROLLBACK_TIMEOUT"):
        monkeypatch.setattr(f"rowlock.queue.{module}", 0.1)
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 1.0)
    monkeypatch.setattr(sessions, "CONNECT_TIMEOUT", 1.0)
    ended_at: list[float] = []
    began = asyncio.Event()

    @far.task
    async def work(job: Job) -> None:
        try:
            async with job.transaction() as own:
                began.set()
                await own.execute("SELECT pg_sleep(60)")
        finally:
            ended_at.append(time.monotonic())

    async with far.worker() as worker:
        await work.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        link.swallows = True
        expires_at = await end_of_lease(connection, worker)
        await eventually(lambda: ended_at)
        assert ended_at[0] < expires_at
        link.swallows = False
        worker.stop(0)


# Every loop goes on.


@pytest.mark.parametrize("how", ["one", "many", "keyed", "again", "get", "cancel", "transaction", "halfway"])
async def test_a_call_over_a_link_that_swallows_all_ends_at_once_when_it_is_cancelled(
    far: Rowlock, near: Rowlock, link: Link, how: str
) -> None:
    @far.task(name="work")
    async def work() -> None: ...

    def halfway() -> Iterator[NewJob[None]]:
        yield work.job()
        link.swallows = True  # when the transaction has begun
        yield work.job()

    waiting = await work.using(delay=3600).enqueue()
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "one": work.enqueue,
        "many": lambda: far.enqueue_many([work.job(), work.job()]),
        "keyed": work.using(unique="key").enqueue,
        "again": lambda: far.enqueue_many([work.job()]),
        "get": lambda: far.get(waiting.id),
        "cancel": lambda: far.jobs.cancel(waiting.id),
        "transaction": lambda: _enqueue_in_transaction(far, work),
        "halfway": lambda: far.enqueue_many(halfway()),
    }
    await calls["get"]()  # the pool has a connection
    link.swallows = how != "halfway"
    calling = asyncio.ensure_future(calls[how]())
    await eventually(lambda: link.swallows)
    await asyncio.sleep(0.05)
    asked_at = time.monotonic()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert time.monotonic() - asked_at < 3
    link.swallows = False
    assert (await far.get(waiting.id)).state == "scheduled"


async def _enqueue_in_transaction(app: Rowlock, task: Task[[], None]) -> None:
    async with app.database.connection() as connection, begun(connection) as transaction:
        await task.using(connection=transaction.given).enqueue()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that gives up soon, and tries again soon."""
    for name in ("CONNECT_TIMEOUT", "QUERY_TIMEOUT", "LONG_QUERY_TIMEOUT"):
        monkeypatch.setattr(sessions, name, 0.4)
    for name in ("loop.main_loop", "duties.runner", "ticker", "attention", "shifts"):
        monkeypatch.setattr(f"rowlock.worker.{name}.PAUSE_MOST", 0.2)
    monkeypatch.setattr("rowlock.queue.finish.finishes.PAUSE_MOST", 0.2)
    for name in ("worker.attention", "worker.ticker"):
        monkeypatch.setattr(f"rowlock.{name}.LOOK_EVERY", 0.1)
    monkeypatch.setattr("rowlock.worker.duties.runner.PAUSE_FIRST", 0.1)
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 0.1)


async def outlast(connection: Connection) -> None:
    """Wait until no worker has a lease."""
    is_over = "SELECT bool_and(expires_at < clock_timestamp()) FROM rowlock.worker"
    await eventually(lambda: connection.fetchval(is_over))


async def terminated(link: Link, connection: Connection) -> None:
    """Each connection is ended by the server, again and again."""
    for _ in range(10):
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name LIKE 'rowlock %' AND datname = current_database()"
        )
        connected = link.connections
        await eventually(lambda connected=connected: link.connections > connected)  # type: ignore[misc]


async def cut(link: Link, connection: Connection) -> None:
    """Each connection is cut, at any moment, for a while."""
    chance = random.Random(1)
    for _ in range(30):
        await link.cut()
        await asyncio.sleep(chance.uniform(0, 0.05))


async def closed(link: Link, connection: Connection) -> None:
    """Nobody listens, for longer than a lease."""
    await link.close()
    await outlast(connection)
    await link.open()


async def swallowed(link: Link, connection: Connection) -> None:
    """Nobody answers, for longer than a lease."""
    link.swallows = True
    await outlast(connection)
    link.swallows = False


async def refused(link: Link, connection: Connection) -> None:
    """The server refuses every login, for longer than a lease."""
    allow = "UPDATE pg_database SET datallowconn = $1 WHERE datname = current_database()"
    await connection.execute(allow, False)
    await link.cut()
    await outlast(connection)
    await connection.execute(allow, True)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("what", [terminated, cut, closed, swallowed, refused])
async def test_every_loop_of_a_worker_goes_on_when_the_database_is_back(
    what: Callable[[Link, Connection], Awaitable[None]], far: Rowlock, link: Link, connection: Connection
) -> None:
    await connection.execute("UPDATE rowlock.duty SET every = '50 ms' WHERE name = 'orphans'")

    @far.task
    async def tick() -> None: ...

    far.schedule(tick, "* * * * * *")

    @far.task(backoff=0, max_attempts=100)
    async def work(job: Job, n: int) -> list[int]:
        return [n, job.crashes]

    async with far.worker(concurrency=2) as worker:
        assert await (await work.enqueue(0)).result(timeout=10) == [0, 0]
        await far.enqueue_many([work.job(n) for n in range(200)])
        await what(link, connection)

        async def works() -> bool:
            try:
                return bool(await (await work.enqueue(1)).result(timeout=3))  # claims, finishes, waits
            except (DatabaseUnavailable, EnqueueUnknown, *server_errors.CONNECTION_LOST):
                return False

        await eventually(works, timeout=20)
        lost = uuid7()
        await connection.execute(
            "INSERT INTO rowlock.job (id, queue, task, args, state, worker, attempt, started_at) "
            "VALUES ($1, 'default', 'work', '{\"n\": 2}', 'running', $2, 1, now())",
            lost,
            uuid7(),
        )
        lost_job = far.handle(await far.get(lost))
        assert await lost_job.result(timeout=10) == [2, 1]  # the upkeep rescued it
        fired = worker._shift.ticker.fired
        await eventually(lambda: worker._shift.ticker.fired > fired)
        expires_at = await end_of_lease(connection, worker)

        async def is_renewed() -> bool:
            return await end_of_lease(connection, worker) > expires_at + 0.1

        await eventually(is_renewed)
        for task in (*worker._shift.background, worker._running):
            assert task is not None
            assert not task.done()
        is_done = "SELECT NOT EXISTS (SELECT FROM rowlock.job WHERE task = 'work')"
        await eventually(lambda: connection.fetchval(is_done))
        worker.stop(0)


async def test_a_server_that_is_too_slow_is_asked_less_and_less_and_the_work_goes_on_when_it_is_not(
    far: Rowlock, link: Link, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CONNECT_TIMEOUT", "QUERY_TIMEOUT", "LONG_QUERY_TIMEOUT"):
        monkeypatch.setattr(sessions, name, 0.1)

    @far.task
    async def work(n: int) -> int:
        return n

    async with far.worker() as worker:
        assert await (await work.enqueue(1)).result(timeout=10) == 1
        with capture_logs() as logs:
            link.delay = 0.5
            await outlast(connection)
        pauses = [entry["retry_in"] for entry in logs if entry["event"] == "claim_failed"]
        assert pauses[:3] == [0.1, 0.2, 0.4]
        link.delay = 0
        monkeypatch.undo()
        await connection.execute("INSERT INTO rowlock.job (id, task, args) VALUES ($1, 'work', '{\"n\": 2}')", uuid7())
        done = "SELECT count(*) = 2 FROM rowlock.finished_job"
        await eventually(lambda: connection.fetchval(done))
        worker.stop(0)


# Names.


async def test_a_connection_comes_back_while_handlers_fill_all_threads_of_the_event_loop(
    settings: Settings, server: Server, database_url: str
) -> None:
    is_over, busy = threading.Event(), threading.Semaphore(0)

    def sleep() -> None:
        busy.release()
        is_over.wait(30)

    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(linked(server, database_url, host="localhost"))
        app = await stack.enter_async_context(Rowlock(settings=replace(settings, database_url=link.url)))

        @app.task
        async def fill() -> None:
            await asyncio.gather(*(asyncio.to_thread(sleep) for _ in range(100)))

        @app.task
        async def work() -> str:
            return "done"

        async def works() -> bool:
            try:
                return await (await work.enqueue()).result(timeout=5) == "done"
            except (DatabaseUnavailable, EnqueueUnknown, *server_errors.CONNECTION_LOST):
                return False

        async with app.worker(), asyncio.timeout(20):
            try:
                await fill.enqueue()
                await eventually(lambda: busy.acquire(blocking=False))
                await link.cut()
                await eventually(works)
            finally:
                is_over.set()
