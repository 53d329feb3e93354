"""Workers that are killed, frozen and stopped while they run a job: nothing is lost, and nothing is finished twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.queue.read.reader import list_attempts
from tests.acceptance.processes import worker
from tests.acceptance.tasks import hang, hold
from tests.process_tasks import is_alive, pids_in
from tests.waiting import eventually

SHORT_LEASE = {"ROWLOCK_LEASE": "3", "ROWLOCK_HEARTBEAT": "0.5"}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def opened(gate: Path, attempt: int) -> None:
    gate.with_name(f"{gate.name}.{attempt}").touch()


async def enqueue_hold(app: Rowlock, gate: Path) -> UUID:
    return (await app.enqueue_many([hold.job(str(gate))]))[0].id


async def running(app: Rowlock, job_id: UUID, attempt: int, timeout: float = 20.0) -> Job:
    async def job() -> Job | None:
        found = await app.get(job_id)
        return found if found.state == "running" and found.attempt == attempt else None

    return await eventually(job, timeout)


async def finished(app: Rowlock, job_id: UUID, timeout: float = 20.0) -> Job:
    async def job() -> Job | None:
        found = await app.get(job_id)
        return found if found.is_finished else None

    return await eventually(job, timeout)


@pytest.mark.slow
async def test_the_job_of_a_killed_worker_runs_again_elsewhere_within_twenty_seconds(
    settings: Settings, app: Rowlock, gate: Path
) -> None:
    job_id = await enqueue_hold(app, gate)
    async with worker(settings) as first:
        before = await running(app, job_id, 1)
        async with worker(settings):
            workers = "SELECT count(*) FROM rowlock.worker"

            async def both_registered() -> bool:
                async with app.database.connection() as connection:
                    return bool(await connection.fetchval(workers) == 2)

            await eventually(both_registered)
            first.kill()
            killed_at = time.monotonic()
            opened(gate, 2)
            done = await finished(app, job_id, timeout=20)
            took = time.monotonic() - killed_at
    assert took < 20
    assert (done.state, done.attempt, done.errors, done.crashes) == ("succeeded", 2, 0, 1)
    assert done.result == 2
    assert done.worker != before.worker
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in await list_attempts(app.database, job_id)] == [
        (1, "crashed")
    ]


@pytest.mark.slow
async def test_a_frozen_worker_cannot_finish_the_job_that_was_rescued_from_it(
    settings: Settings, app: Rowlock, gate: Path
) -> None:
    job_id = await enqueue_hold(app, gate)
    async with worker(settings, **SHORT_LEASE) as first:
        await running(app, job_id, 1)
        first.send_signal(signal.SIGSTOP)
        opened(gate, 1)
        async with worker(settings, **SHORT_LEASE):
            rescued = await running(app, job_id, 2)
            first.send_signal(signal.SIGCONT)

            async def first_has_a_new_lease() -> bool:
                async with app.database.connection() as connection:
                    alive = "SELECT count(*) FROM rowlock.worker WHERE expires_at > now()"
                    return bool(await connection.fetchval(alive) == 2)

            await eventually(first_has_a_new_lease)
            assert (await app.get(job_id)).state == "running", "the first attempt's outcome was not accepted"
            opened(gate, 2)
            done = await finished(app, job_id)
    assert (done.state, done.attempt, done.result, done.worker) == ("succeeded", 2, 2, rescued.worker)


async def test_a_stopped_worker_gives_its_job_back_without_using_up_an_attempt(
    settings: Settings, app: Rowlock, gate: Path
) -> None:
    job_id = await enqueue_hold(app, gate)
    async with worker(settings, ROWLOCK_GRACE_PERIOD="0.2") as first:
        await running(app, job_id, 1)
        first.terminate()
        assert await first.wait() == 0
    back = await app.get(job_id)
    assert (back.state, back.errors, back.crashes) == ("queued", 0, 0)
    opened(gate, 2)
    async with worker(settings):
        done = await finished(app, job_id)
    assert (done.state, done.result, done.errors) == ("succeeded", 2, 0)
    assert [attempt["outcome"] for attempt in await list_attempts(app.database, job_id)] == ["released"]


async def test_a_stopped_worker_lets_its_running_job_finish_within_the_grace_period(
    settings: Settings, app: Rowlock, gate: Path
) -> None:
    job_id = await enqueue_hold(app, gate)
    async with worker(settings) as first:
        await running(app, job_id, 1)
        first.terminate()

        async def claims_no_more() -> bool:
            later = (await app.enqueue_many([hold.job(str(gate))]))[0]
            async with app.database.connection() as connection:
                await connection.execute("SELECT pg_notify('rowlock.wakeup', 'default')")
            return (await app.get(later.id)).state == "queued"

        await eventually(claims_no_more)
        opened(gate, 1)
        assert await first.wait() == 0
    done = await app.get(job_id)
    assert (done.state, done.attempt) == ("succeeded", 1)


@pytest.mark.parametrize("how", ["python", "regex"])
async def test_the_processes_of_a_killed_worker_end_with_it(
    settings: Settings, app: Rowlock, tmp_path: Path, how: str
) -> None:
    file = tmp_path / "pids"
    await app.enqueue_many([hang.job(str(file), how)])
    async with worker(settings) as killed:
        pid, helper = await eventually(lambda: pids_in(file), 20.0)
        killed.kill()
        try:
            await eventually(lambda: not is_alive(pid))
        finally:
            os.kill(helper, signal.SIGKILL)  # what a task has started is nobody's then
