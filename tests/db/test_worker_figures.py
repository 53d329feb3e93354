"""What a worker counts: each outcome once, by queue and task, and no more of them apart than a limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from asyncpg import Connection, Record

from rowlock import Cancel, Fail, Job, Rowlock, Settings, Snooze
from rowlock.worker.vitals import counts
from rowlock.worker.vitals.counts import OTHERS, KindCounts
from tests.waiting import eventually


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


async def drained(app: Rowlock) -> dict[tuple[str, str], KindCounts]:
    assert app.worker().figures is None  # it was not opened yet
    worker = app.worker()
    worker.count_kinds()
    await worker.drain()
    assert worker.figures is not None
    return worker.figures.counts.kinds


async def test_each_outcome_is_counted_once_by_queue_and_task(app: Rowlock) -> None:
    @app.task(queue="mail", max_attempts=1)
    async def handle(what: str) -> str:
        if what == "succeed":
            return "done"
        raise {"fail": Fail("no"), "cancel": Cancel("no"), "raise": ValueError("no"), "snooze": Snooze(3600)}[what]

    for what in ("succeed", "succeed", "fail", "cancel", "raise", "snooze"):
        await handle.enqueue(what)
    kinds = await drained(app)
    assert list(kinds) == [("mail", "handle")]
    kind = kinds["mail", "handle"]
    assert (kind.succeeded, kind.failed, kind.cancelled, kind.errors) == (2, 2, 1, 2)
    assert (kind.retried, kind.snoozed, kind.released, kind.refused) == (0, 1, 0, 0)
    assert (sum(kind.durations), sum(kind.waits)) == (5, 6)


async def test_an_error_that_is_tried_again_is_no_failed_job(app: Rowlock) -> None:
    @app.task(max_attempts=2)
    async def explode() -> None:
        raise ValueError

    await explode.enqueue()
    kind = (await drained(app))["default", "explode"]
    assert (kind.errors, kind.retried, kind.failed, sum(kind.durations)) == (1, 1, 0, 0)


async def test_a_success_recorded_by_the_handlers_own_transaction_is_counted(app: Rowlock) -> None:
    @app.task
    async def transfer(job: Job) -> None:
        async with job.transaction():
            pass

    @app.task
    async def stumble(job: Job) -> None:
        async with job.transaction():
            pass
        raise ValueError

    await transfer.enqueue()
    await stumble.enqueue()
    kinds = await drained(app)
    assert (kinds["default", "transfer"].succeeded, kinds["default", "stumble"].succeeded) == (1, 1)
    assert kinds["default", "stumble"].errors == 0


async def test_a_result_that_the_database_does_not_take_counts_as_the_error_that_it_becomes(
    app: Rowlock, connection: Connection[Record]
) -> None:
    @app.task(max_attempts=1)
    async def make(n: int) -> int:
        return n

    await connection.execute("ALTER TABLE rowlock.finished_job ADD CONSTRAINT unlucky CHECK (result <> '13')")
    await app.enqueue_many([make.job(n) for n in range(10, 15)])
    kind = (await drained(app))["default", "make"]
    assert (kind.succeeded, kind.failed, kind.errors) == (4, 1, 1)


async def test_what_comes_too_late_is_counted_as_refused_and_nothing_else(
    app: Rowlock, connection: Connection[Record]
) -> None:
    @app.task
    async def lose() -> None:
        await connection.execute("UPDATE rowlock.job SET attempt = attempt + 1")

    await lose.enqueue()
    kind = (await drained(app))["default", "lose"]
    assert (kind.refused, kind.succeeded, sum(kind.durations)) == (1, 0, 0)


async def test_tasks_beyond_the_limit_are_counted_together(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MOST_TOLD_APART", 2)

    async def pass_by() -> None:
        pass

    for name in ("one", "two", "three", "four"):
        await app.task(name=name)(pass_by).enqueue()
    kinds = await drained(app)
    assert len(kinds) == 3
    assert kinds[OTHERS].succeeded == 2


async def test_how_long_jobs_were_due_is_counted_by_the_databases_clock(
    app: Rowlock, connection: Connection[Record]
) -> None:
    @app.task
    async def wait_long() -> None:
        pass

    await wait_long.enqueue()
    await connection.execute("UPDATE rowlock.job SET run_at = run_at - interval '100 seconds'")
    kind = (await drained(app))["default", "wait_long"]
    assert 100 <= kind.wait_seconds < 110
    assert kind.waits[counts.BOUNDS.index(300)] == 1


async def test_jobs_are_not_told_apart_for_nobody(app: Rowlock) -> None:
    @app.task
    async def pass_by() -> None:
        pass

    await pass_by.enqueue()
    worker = app.worker()
    await worker.drain()
    assert worker.figures is not None
    assert worker.figures.counts.claimed == 1
    assert worker.figures.counts.kinds == {}


async def test_figures_tell_how_the_parts_of_a_worker_stand(app: Rowlock) -> None:
    began, release = asyncio.Event(), asyncio.Event()

    @app.task
    async def wait_for_release() -> None:
        began.set()
        await release.wait()

    await wait_for_release.enqueue()
    async with app.worker(concurrency=3) as worker:
        await began.wait()
        figures = worker.figures
        assert figures is not None
        assert worker.is_leased
        assert (figures.slots, figures.slots_used, figures.jobs_ahead) == (3, 1, 0)
        assert 0 < figures.lease_seconds <= app.settings.lease.total_seconds()
        assert set(figures.reconnects.values()) == {0}
        assert figures.pools["client"].size >= 1
        await eventually(lambda: sum(worker.figures.loop_delays.buckets) if worker.figures else 0)
        release.set()
    assert worker.figures is not None
    assert worker.figures.slots_used == 0
    assert not worker.is_leased


async def test_the_row_of_a_worker_says_how_much_memory_it_uses(
    database_url: str, connection: Connection[Record]
) -> None:
    async with (
        Rowlock(settings=Settings(database_url=database_url, heartbeat=timedelta(seconds=1))) as app,
        app.worker(),
    ):
        stored = await eventually(lambda: connection.fetchval("SELECT memory_bytes FROM rowlock.worker"))
        (worker,) = await app.workers.list()
        assert worker.memory_bytes == stored
        assert 10_000_000 < stored < 10_000_000_000
