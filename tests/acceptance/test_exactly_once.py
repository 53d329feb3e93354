"""Workers that are killed around the commit of `job.transaction()`: the effect and the success, both or neither."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from tests.acceptance.processes import worker
from tests.acceptance.tasks import note, pay
from tests.waiting import eventually

SHORT_LEASE = {"ROWLOCK_LEASE": "3", "ROWLOCK_HEARTBEAT": "0.5"}


@pytest.fixture
async def app(settings: Settings, connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[Rowlock]:
    await connection.execute("CREATE TABLE payment (attempt integer)")
    async with Rowlock(settings=settings) as opened:
        yield opened


async def payments(connection: asyncpg.Connection[asyncpg.Record]) -> list[int]:
    return [row["attempt"] for row in await connection.fetch("SELECT attempt FROM payment")]


async def test_a_kill_before_the_commit_leaves_neither_and_the_job_runs_again(
    settings: Settings, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    handle = (await app.enqueue_many([pay.job(str(gate), "before")]))[0]
    async with worker(settings, **SHORT_LEASE) as first:
        await eventually(Path(f"{gate}.before").exists, 20)
        first.kill()
        await first.wait()
    assert await payments(connection) == []
    assert (await app.get(handle.id)).state == "running", "nobody has seen yet that its worker is gone"
    async with worker(settings, **SHORT_LEASE):

        async def finished() -> Job | None:
            job = await app.get(handle.id)
            return job if job.is_finished else None

        job = await eventually(finished, 20)
    assert (job.state, job.attempt, job.crashes) == ("succeeded", 2, 1)
    assert job.result == {"attempt": 2, "checkpoints": 2}, "the checkpoint outlived the kill"
    assert await payments(connection) == [2]


async def test_a_kill_after_the_commit_leaves_both_and_the_job_does_not_run_again(
    settings: Settings, app: Rowlock, connection: asyncpg.Connection[asyncpg.Record], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    handle = (await app.enqueue_many([pay.job(str(gate), "after")]))[0]
    async with worker(settings, **SHORT_LEASE) as first:
        await eventually(Path(f"{gate}.after").exists, 20)
        first.kill()
        await first.wait()
    async with worker(settings, **SHORT_LEASE):

        async def the_dead_worker_is_forgotten() -> bool:
            return bool(await connection.fetchval("SELECT count(*) FROM rowlock.worker") == 1)

        await eventually(the_dead_worker_is_forgotten, 20)  # whatever it held would have been rescued by now
        later = (await app.enqueue_many([note.job("later")]))[0]
        assert await later.result(timeout=20) == "later"
    job = await app.get(handle.id)
    assert (job.state, job.attempt, job.crashes) == ("succeeded", 1, 0)
    assert job.result == {"attempt": 1, "checkpoints": 1}
    assert await payments(connection) == [1]
