"""A database that has lost its newest claims: a failover to a standby that was behind, a backup that was restored."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.finishes import Finishes, Unsuccess
from rowlock.queue.jobs.lifecycle import Again
from rowlock.queue.jobs.results import ErrorText
from tests.db.claimants import CLAIMANT, register
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

RUNNING = "SELECT count(*) = 20 FROM rowlock.job WHERE state = 'running' AND attempt = $1"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=replace(settings, poll_interval=timedelta(seconds=0.05))) as opened:
        yield opened


@pytest.mark.parametrize("attempt", [0, 4], ids=["the same attempt again", "another attempt"])
async def test_a_job_that_is_claimed_while_it_runs_here_does_not_start_beside_itself(
    attempt: int, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.main_loop.ADOPT_EVERY", 0.1)
    goes_on, calls, running = asyncio.Event(), Counter[UUID](), Counter[UUID]()
    most: Counter[UUID] = Counter()

    @app.task
    async def work(job: Job) -> int:
        calls[job.id] += 1
        running[job.id] += 1
        most[job.id] = max(most[job.id], running[job.id])
        try:
            await goes_on.wait()
        finally:
            running[job.id] -= 1
        return job.attempt

    handles = await app.enqueue_many([work.job() for _ in range(20)])
    with capture_logs() as logs:
        async with app.worker():
            await eventually(lambda: connection.fetchval(RUNNING, 1))
            await connection.execute(
                "UPDATE rowlock.job SET state = 'queued', worker = NULL, started_at = NULL, attempt = $1, "
                "run_at = clock_timestamp()",  # where the claims look: after a failover they look everywhere
                attempt,
            )
            await eventually(lambda: connection.fetchval(RUNNING, attempt + 1))
            await eventually(lambda: [entry for entry in logs if entry["event"] == "jobs_claimed_twice"])
            goes_on.set()
            results = [await handle.result(timeout=10) for handle in handles]
    assert results == [attempt + 1] * 20
    assert set(most.values()) == {1}, "never beside itself"
    assert set(calls.values()) == {1 if attempt == 0 else 2}
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job WHERE crashes = 0") == 20


@pytest.mark.parametrize("way", ["a reconnect", "the net"])
async def test_a_job_whose_outcome_the_database_has_lost_runs_again(
    way: str, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.main_loop.ADOPT_EVERY", 0.1)
    monkeypatch.setattr("rowlock.worker.loop.main_loop.ADOPT_NET", 0.2 if way == "the net" else 1e9)
    calls = Counter[UUID]()

    @app.task
    async def work(job: Job) -> int:
        calls[job.id] += 1
        return calls[job.id]

    async with app.worker() as worker:
        handle = await work.enqueue()
        assert await handle.result(timeout=10) == 1
        await connection.execute(  # as the standby has it that takes over
            "WITH lost AS (DELETE FROM rowlock.finished_job RETURNING id, task, queue, priority, run_at, created_at) "
            "INSERT INTO rowlock.job (id, task, queue, priority, run_at, created_at, state, attempt, worker, "
            "started_at) SELECT id, task, queue, priority, run_at, created_at, 'running', 1, $1, now() FROM lost",
            worker.id,
        )
        if way == "a reconnect":
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND application_name = 'rowlock claim'"
            )
        assert await handle.result(timeout=10) == 2
        assert (await handle.get()).crashes == 0


async def test_a_job_that_was_claimed_while_it_waited_for_a_slot_starts_once(
    app: Rowlock, connection: Connection
) -> None:
    goes_on, calls = asyncio.Event(), Counter[UUID]()

    @app.task
    async def hold() -> None:
        await goes_on.wait()

    @app.task
    async def work(job: Job) -> None:
        calls[job.id] += 1

    async with app.worker(concurrency=1) as worker:
        shift = worker._shift
        first = await hold.enqueue()
        await eventually(lambda: shift.slots.in_use == 1)
        waiting = await work.enqueue()
        rows = await shift.claims.claim(worker.id, 1, {})
        for _ in range(2):
            shift.slots.add(rows, shift.lease)
        assert shift.slots.doubled == {waiting.id}
        goes_on.set()
        await first.result(timeout=10)
        await waiting.result(timeout=10)
        await eventually(lambda: not shift.slots.doubled)
    assert calls[waiting.id] == 1


@pytest.mark.parametrize("kind", ["success", "error"])
async def test_a_job_that_runs_again_before_its_first_outcome_is_recorded_ends_once(
    kind: str, settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was away, and is now as it was before the claim: both outcomes are of the first attempt."""
    assert settings.database_url is not None
    control = ControlConnection(settings, settings.database_url, purpose="finish")
    finishes = Finishes(control, CLAIMANT, lambda _success, error: pytest.fail(str(error)))
    tried, goes_on = asyncio.Event(), asyncio.Event()

    async def is_away(*_args: object) -> list[asyncpg.Record]:
        monkeypatch.undo()
        tried.set()
        await goes_on.wait()
        raise ConnectionResetError

    def give(job: UUID, text: str) -> None:
        claimed: Any = {"id": job, "attempt": 1, "task": "noop"}
        if kind == "success":
            success: Any = SimpleNamespace(claimed=claimed, result=text, began=time.monotonic())
            finishes.succeeded(success)
        else:
            error = ErrorText(type="ValueError", message=text, traceback="")
            again = Again(delay=timedelta(0), outcome="error", counts=True)
            finishes.ended(Unsuccess(claimed, again, error, time.monotonic()))

    await register(connection)
    first, second = [await connection.fetchval("SELECT rowlock.enqueue('noop')") for _ in range(2)]
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now()", CLAIMANT
    )
    monkeypatch.setattr(control, "fetch", is_away)
    running = asyncio.create_task(finishes.run())
    give(first, "1")
    await tried.wait()
    give(second, "2")
    give(second, "3")
    goes_on.set()
    await asyncio.wait_for(finishes.flush(), 10)
    running.cancel()
    await control.close()
    rows = await connection.fetch("SELECT id, coalesce(result::text, error) AS told FROM rowlock.jobs ORDER BY id")
    told = ["1", "2"] if kind == "success" else ["ValueError: 1", "ValueError: 2"]
    assert [(row["id"], row["told"]) for row in rows] == [(first, told[0]), (second, told[1])]
