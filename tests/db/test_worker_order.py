"""Which job a worker runs when: by urgency, queue and time, without waiting for a poll."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import InvalidOption, Job, Rowlock, Settings
from tests.db.rows import attempts_of, row_of, states
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


SOON = timedelta(milliseconds=50)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=SOON)


@pytest.fixture
def unpolled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A worker that marks itself as idle at once, and then sleeps until something wakes it: what runs did not come by
    polling."""
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 0.001}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    monkeypatch.setattr("rowlock.worker.loop.doze.BUSY_JOBS_PER_SECOND", float("inf"))
    return replace(settings, poll_interval=timedelta(seconds=60))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_the_urgent_run_first_and_equals_in_the_order_in_which_they_came(app: Rowlock) -> None:
    order: list[tuple[int, int]] = []

    @app.task
    async def note(priority: int, n: int) -> None:
        order.append((priority, n))

    for n in range(4):
        for priority in (5, 0, 9, 3):
            await note.using(priority=priority).enqueue(priority, n)
    await app.worker(concurrency=1).drain()
    assert order == [(priority, n) for priority in (9, 5, 3, 0) for n in range(4)]


async def test_a_limited_queue_runs_no_more_than_its_limit_while_others_go_on(app: Rowlock) -> None:
    at_once: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task
    async def hold(queue: str) -> None:
        at_once[queue] += 1
        most[queue] = max(most[queue], at_once[queue])
        await asyncio.sleep(0.005)
        at_once[queue] -= 1

    jobs = [hold.using(queue="reports", priority=n % 10).job("reports") for n in range(40)]
    await app.enqueue_many(jobs + [hold.using(queue="email").job("email") for _ in range(40)])
    assert await app.worker(queues=["reports:2", "email"], concurrency=10).drain() == 80
    assert most["reports"] == 2
    assert 2 < most["email"] <= 10


async def test_the_slot_of_a_limited_queue_is_filled_as_soon_as_it_is_free(unpolled: Settings) -> None:
    async with Rowlock(settings=unpolled) as app:

        @app.task(queue="reports")
        async def hold() -> None:
            await asyncio.sleep(0.05)

        handles = await app.enqueue_many([hold.job() for _ in range(6)])
        async with app.worker(queues=["reports:2"], concurrency=10):
            for handle in handles:
                await handle.result(timeout=20)


async def test_a_big_backlog_in_one_queue_starves_no_other(app: Rowlock) -> None:
    order: list[str] = []

    @app.task
    async def note(queue: str) -> None:
        order.append(queue)

    await app.enqueue_many([note.using(queue="big", priority=9).job("big") for _ in range(3000)])
    await app.enqueue_many([note.using(queue=q, priority=0).job(q) for q in ("a", "b", "c") for _ in range(3)])
    await app.worker(queues=["big", "a", "b", "c"], concurrency=2).drain()
    assert len(order) == 3009
    last = max(position for position, queue in enumerate(order) if queue != "big")
    assert last < 1500, "the small queues were served while the big one had work"


async def test_a_worker_serves_the_queues_that_it_was_given_alone(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def note() -> None: ...

    mine = await note.using(queue="mine").enqueue()
    other = await note.using(queue="other").enqueue()
    assert await app.worker(queues=["mine"]).drain() == 1
    assert (await mine.get()).state == "succeeded"
    assert (await other.get()).state == "queued"


async def test_queues_that_make_no_sense_are_refused(app: Rowlock) -> None:
    for queues in (["a:0"], ["a:x"], ["a:-1"], ["a:"], ["a b"], [""], [".."]):
        with pytest.raises(InvalidOption, match="queue"):
            app.worker(queues=queues)
    senseless: list[dict[str, Any]] = [{"concurrency": 0}, {"threads": 0}]
    for options in senseless:
        with pytest.raises(InvalidOption, match="at least 1"):
            app.worker(**options)


async def test_a_job_of_an_unknown_task_stays_queued_and_untouched(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def known() -> None: ...

    stranger = await connection.fetchval("SELECT rowlock.enqueue('stranger', priority => 9)")
    before = await row_of(connection, stranger)
    handle = await known.enqueue()
    assert await app.worker(concurrency=1).drain() == 1
    assert (await handle.get()).state == "succeeded"
    assert await row_of(connection, stranger) == before
    assert await attempts_of(connection, stranger) == []


@pytest.mark.needs_session("it waits for a notification")
async def test_a_job_runs_at_about_its_time_and_not_at_the_next_poll(unpolled: Settings) -> None:
    async with Rowlock(settings=unpolled) as app:

        @app.task
        async def later() -> None: ...

        async with app.worker():
            for delay in (0.3, 0.0, 0.6):
                handle = await later.using(delay=delay).enqueue()
                await handle.result(timeout=15)
                job = await handle.get()
                assert job.started_at is not None
                assert timedelta(0) <= job.started_at - job.run_at < timedelta(seconds=5)


@pytest.mark.needs_session("it waits for a notification")
async def test_a_notification_wakes_an_idle_worker(
    unpolled: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rowlock.queue.connect.listening.TEST_EVERY", 3600.0
    )  # after each test of its hearing a worker looks for jobs
    async with Rowlock(settings=unpolled) as app:

        @app.task
        async def quick() -> None: ...

        @app.task(queue="other")
        async def in_other() -> None: ...

        async with app.worker():

            async def is_idle() -> bool:
                marks: int = await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker")
                return marks == 2

            await eventually(is_idle)
            await (await quick.enqueue()).result(timeout=10)
            await (await in_other.enqueue()).result(timeout=10)
            [copied] = await app.enqueue_many([quick.job()])
            await copied.result(timeout=10)
            async with connection.transaction():
                [inserted] = await app.enqueue_many([in_other.job()], connection=connection)
            await inserted.result(timeout=10)
            sql: UUID = await connection.fetchval("SELECT rowlock.enqueue('quick')")
            await app.handle(await app.get(sql)).result(timeout=10)
        assert await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker") == 0, "it left no mark behind"


async def test_without_listening_polling_finds_the_work(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=replace(settings, listen=False)) as app:

        @app.task(max_attempts=2, backoff=0)
        async def flaky(job: Job) -> int:
            if job.attempt == 1:
                raise ValueError("once")
            return job.attempt

        async with app.worker():
            await (await flaky.using(delay=0.3).enqueue()).result(timeout=10)
            assert await (await flaky.enqueue()).result(timeout=10) == 2
            assert await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker") == 0


async def test_a_job_can_enqueue_jobs(app: Rowlock) -> None:
    seen: list[int] = []

    @app.task
    async def count_down(n: int) -> None:
        seen.append(n)
        if n:
            await count_down.enqueue(n - 1)

    await count_down.enqueue(5)
    assert await app.worker().drain() == 6
    assert seen == [5, 4, 3, 2, 1, 0]


async def test_two_workers_share_the_work_and_each_job_runs_once(app: Rowlock, connection: Connection) -> None:
    runs: Counter[int] = Counter()
    both = asyncio.Event()

    @app.task
    async def note(n: int) -> None:
        runs[n] += 1
        if len(runs) == 40:
            both.set()  # more than one of them could hold
        await both.wait()

    await app.enqueue_many([note.job(n) for n in range(2000)])
    async with app.worker(concurrency=20), app.worker(concurrency=20):

        async def all_succeeded() -> bool:
            return await states(connection) == {"succeeded": 2000}

        await eventually(all_succeeded, timeout=30)
    assert runs == Counter(range(2000))
    shares = await connection.fetch("SELECT worker, count(*) FROM rowlock.finished_job GROUP BY worker")
    assert len(shares) == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt") == 0


async def test_a_drain_finds_what_was_committed_behind_others_while_a_long_writer_is_open(
    app: Rowlock, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Claims look behind their newest positions seldom then; the last one of a drain does so in any case."""
    monkeypatch.setattr("rowlock.queue.claim.cursors.PATIENCE", -1.0)
    monkeypatch.setattr("rowlock.queue.claim.cursors.RESCAN_SHARE", 1e9)
    ran: list[str] = []

    @app.task
    async def work(name: str) -> None:
        ran.append(name)
        if name == "first":
            await work.enqueue("commits")
        elif name == "commits":
            await transaction.commit()

    writer, late = await asyncpg.connect(direct_url), await asyncpg.connect(direct_url)
    try:
        await writer.execute("BEGIN; SELECT pg_current_xact_id()")
        transaction = late.transaction()
        await transaction.start()
        await work.using(connection=late).enqueue("committed late")
        await work.enqueue("first")
        assert await app.worker().drain() == 3
    finally:
        writer.terminate()
        late.terminate()
    assert ran[-1] == "committed late"
