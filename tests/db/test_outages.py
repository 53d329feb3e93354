"""The database goes away in the middle of the work: no job is lost, and each outcome is recorded once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, JobHandle, Rowlock, Settings
from tests.db.dead_workers import add_worker, hand_to, with_busy_upkeep
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    return await with_busy_upkeep(database_url, monkeypatch)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def terminate(connection: Connection, purpose: str = "") -> int:
    ended: int = await connection.fetchval(
        "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name LIKE $1) AS ended",
        f"rowlock {purpose}%",
    )
    return ended


async def test_connections_killed_in_the_middle_of_the_work_cost_no_job_and_no_second_run(
    app: Rowlock, connection: Connection
) -> None:
    runs: Counter[int] = Counter()

    @app.task(max_attempts=2, backoff=0)
    async def work(job: Job, n: int) -> int:
        runs[n] += 1
        await asyncio.sleep(0.001)
        if n % 10 == 0 and job.errors == 0:
            raise ValueError(n)
        return n

    handles: list[JobHandle[int]] = await app.enqueue_many([work.job(n) for n in range(1500)])

    async def finished(at_least: int) -> bool:
        done: int = await connection.fetchval("SELECT count(*) FROM rowlock.finished_job")
        return done >= at_least

    async with app.worker(concurrency=20) as worker:
        first = worker.id
        for share in (1, 200, 500, 800):
            await eventually(lambda share=share: finished(share), timeout=30)  # type: ignore[misc]
            await eventually(lambda: terminate(connection))
        await eventually(lambda: finished(1500), timeout=30)
        assert await (await work.enqueue(9999)).result(timeout=20) == 9999
        assert worker.id == first, "its lease held"
        assert worker._shift.finishes.refused == 0
    rows = await connection.fetch("SELECT id, state, attempt, errors, crashes FROM rowlock.jobs")
    assert len(rows) == len({row["id"] for row in rows}) == len(handles) + 1
    assert {row["state"] for row in rows} == {"succeeded"}
    assert {row["crashes"] for row in rows} == {0}
    again = {n: count for n, count in runs.items() if count != (2 if n % 10 == 0 else 1)}
    assert again == {}
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome = 'error'") == 150


async def test_an_outcome_whose_answer_was_lost_is_recorded_once(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(max_attempts=3, backoff=0)
    async def work(job: Job, n: int) -> int:
        if n % 2 and job.attempt == 1:
            raise ValueError(n)
        return n

    worker = app.worker()
    lost = Counter[str]()
    handles = [await work.enqueue(n) for n in range(6)]
    async with worker:
        fetch = worker._shift.links.finish.fetch

        async def lose_the_answer(name: str, *parameters: object) -> list[asyncpg.Record]:
            rows = await fetch(name, *parameters)
            if name in {"succeed", "again"} and lost[name] < 2:
                lost[name] += 1
                raise ConnectionResetError("the answer was lost")
            return rows

        monkeypatch.setattr(worker._shift.links.finish, "fetch", lose_the_answer)
        more = [await work.enqueue(n) for n in range(6)]
        for handle in [*handles, *more]:
            await handle.result(timeout=20)
        assert worker._shift.finishes.refused == 0, "it was its own first try that had come first"
    assert lost["succeed"] == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs") == 12
    assert await connection.fetchval("SELECT max(errors) FROM rowlock.jobs") == 1


async def test_of_outcomes_that_are_refused_at_the_second_try_only_the_stale_ones_count(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, tries = Counter[int](), asyncio.Event(), Counter[str]()

    @app.task(max_attempts=3, backoff=60)
    async def work(n: int) -> int:
        began[n] += 1
        await go.wait()
        if n % 2:
            raise ValueError(n)
        return n

    handles = [await work.enqueue(n) for n in range(6)]
    stale = {str(handle.id) for handle in handles[:2]}
    with capture_logs() as logs:
        async with app.worker() as worker:
            await eventually(lambda: began.total() == 6)
            newer = await add_worker(connection, timedelta(hours=1))
            await hand_to(connection, newer, handles[0].id, handles[1].id)
            fetch = worker._shift.links.finish.fetch

            async def lose_the_answer(name: str, *parameters: object) -> list[asyncpg.Record]:
                rows = await fetch(name, *parameters)
                tries[name] += 1
                if name in {"succeed", "again"} and tries[name] == 1:
                    raise ConnectionResetError("the answer was lost")
                return rows

            monkeypatch.setattr(worker._shift.links.finish, "fetch", lose_the_answer)
            go.set()
            await eventually(lambda: worker._shift.finishes.refused == 2)
            await worker._shift.finishes.flush()
            assert worker._shift.finishes.refused == 2
    assert tries == {"succeed": 2, "again": 2, "list_recorded": 2}
    assert {entry["job_id"] for entry in logs if entry["event"] == "finish_refused"} == stale
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome = 'error'") == 2


async def test_outcomes_that_are_not_recorded_in_time_are_sent_in_halves(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go, sizes = Counter[int](), asyncio.Event(), list[int]()

    @app.task
    async def work(n: int) -> int:
        began[n] += 1
        await go.wait()
        return n

    await app.enqueue_many([work.job(n) for n in range(20)])
    async with app.worker() as worker:
        await eventually(lambda: began.total() == 20)
        fetch = worker._shift.links.finish.fetch

        async def take_five(name: str, *parameters: Any) -> list[asyncpg.Record]:  # noqa: ANN401  # of any statement
            if name == "succeed":
                sizes.append(len(parameters[1]))
                if sizes[-1] > 5:
                    raise TimeoutError
            return await fetch(name, *parameters)

        monkeypatch.setattr(worker._shift.links.finish, "fetch", take_five)
        go.set()
        await eventually(lambda: len(sizes) > 0 and worker._shift.finishes._settled.is_set())
    assert sizes == [20, 10, 5, 5, 10, 5, 5]
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") == 20


async def test_jobs_of_a_claim_whose_answer_was_lost_run_without_waiting_for_the_lease(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    @app.task(max_attempts=1)
    async def work(job: Job) -> list[int]:
        return [job.attempt, job.crashes]

    lost: list[UUID] = []
    async with app.worker() as worker:
        fetch = worker._shift.links.claim.fetch

        async def lose_the_answer(name: str, *parameters: object) -> list[asyncpg.Record]:
            rows = await fetch(name, *parameters)
            if name == "claim" and len(rows) > 1 and not lost:
                lost.extend(row["id"] for row in rows[:-1])
                raise ConnectionResetError("the answer was lost")
            return rows

        monkeypatch.setattr(worker._shift.links.claim, "fetch", lose_the_answer)
        handles = await app.enqueue_many([work.job() for _ in range(5)])
        for handle in handles:
            assert await handle.result(timeout=12) == [1, 0]
    assert lost
