"""Quieting, resuming and stopping one live worker: it takes no new jobs, and loses none of those that it has."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings, WorkerNotFound, WrongState
from rowlock.cli.show.findings import judge_workers
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

RUN_OUT = "UPDATE rowlock.worker SET expires_at = now() - interval '1 second' WHERE id = $1"


class Gate:
    """Jobs of the task `hold` begin, and wait until it is open."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.is_open = asyncio.Event()

    def add_to(self, app: Rowlock) -> None:
        @app.task
        async def hold(job: Job, number: int) -> int:
            self.begun.append(number)
            await self.is_open.wait()
            return job.attempt

    def has_begun(self, *numbers: int) -> bool:
        return sorted(self.begun) == list(numbers)


@pytest.fixture(params=["listening", "polling"])
async def app(request: pytest.FixtureRequest, settings: Settings) -> AsyncIterator[Rowlock]:
    listen = settings.listen and request.param == "listening"
    async with Rowlock(settings=replace(settings, listen=listen, poll_interval=timedelta(seconds=0.05))) as made:
        yield made


@pytest.fixture
def gate(app: Rowlock) -> Gate:
    gate = Gate()
    gate.add_to(app)
    return gate


def hears(worker: object, what: str) -> Callable[[], bool]:
    return lambda: bool(getattr(worker, what))


async def test_a_quiet_worker_takes_nothing_new_ends_what_it_has_and_is_resumed(app: Rowlock, gate: Gate) -> None:
    async with app.worker(concurrency=2) as worker, app.worker(queues=["elsewhere"]):
        first = await app.enqueue("hold", {"number": 1})
        await eventually(lambda: gate.has_begun(1))
        quiet = await app.workers.quiet(worker.id, by="ada")
        assert (quiet.id, quiet.state, quiet.running) == (worker.id, "quiet", 1)
        await eventually(hears(worker, "is_quiet"))
        second = await app.enqueue("hold", {"number": 2})
        gate.is_open.set()
        assert await first.result(timeout=10) == 1
        before = worker.figures.lease_renewals if worker.figures else 0
        await eventually(lambda: worker.figures is not None and worker.figures.lease_renewals > before)
        assert gate.has_begun(1), "nothing new for as long as a heartbeat"
        assert (await second.get()).state == "queued"
        assert (await app.workers.resume(str(worker.id))).state == "running"
        assert await second.result(timeout=10) == 1
    verbs = await app.operations(target_kind="worker")
    assert [(one.verb, one.by, one.details) for one in verbs] == [
        ("resume", None, {"before": "quiet"}),
        ("quiet", "ada", {"before": "running"}),
    ]
    assert verbs[0].target == str(worker.id)


async def test_a_quiet_worker_hears_that_its_job_is_cancelled(app: Rowlock, gate: Gate) -> None:
    async with app.worker() as worker:
        job = await app.enqueue("hold", {"number": 1})
        await eventually(lambda: gate.has_begun(1))
        await app.workers.quiet(worker.id)
        await eventually(hears(worker, "is_quiet"))
        await app.jobs.cancel(job.id)

        async def is_cancelled() -> bool:
            return (await job.get()).state == "cancelled"

        await eventually(is_cancelled)


async def test_a_stopped_worker_ends_its_jobs_and_run_returns(app: Rowlock, gate: Gate, connection: Connection) -> None:
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    job = await app.enqueue("hold", {"number": 1})
    await eventually(lambda: gate.has_begun(1))
    assert (await app.workers.stop(worker.id, by="ada")).state == "stopping"
    await eventually(hears(worker, "is_stopping"))
    assert (await app.workers.stop(worker.id)).state == "stopping", "once more is no error"
    for act in (app.workers.quiet, app.workers.resume):
        with pytest.raises(WrongState, match="is stopping") as caught:
            await act(worker.id)
        assert caught.value.state == "stopping"
    later = await app.enqueue("hold", {"number": 2})
    gate.is_open.set()
    await asyncio.wait_for(running, 20)
    assert worker.is_told_to_stop
    assert await job.result(timeout=1) == 1
    assert (await later.get()).state == "queued"
    assert [(one.verb, one.by) for one in await app.operations(target_kind="worker")] == [("stop", "ada")]
    assert await app.workers.list() == []
    await app.worker().drain()  # the next one is told nothing
    assert await later.result(timeout=1) == 1


async def test_a_quiet_worker_can_be_stopped(app: Rowlock) -> None:
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await eventually(hears(worker, "is_leased"))
    await app.workers.quiet(worker.id)
    await eventually(hears(worker, "is_quiet"))
    await app.workers.stop(worker.id)
    await asyncio.wait_for(running, 20)


async def test_a_block_goes_on_when_its_worker_is_stopped(app: Rowlock, gate: Gate) -> None:
    gate.is_open.set()
    async with app.worker() as worker:
        await app.workers.stop(worker.id)

        async def is_gone() -> bool:
            return await app.workers.list() == []

        await eventually(is_gone)
        job = await app.enqueue("hold", {"number": 1})
    async with worker:  # entered anew, it works again
        assert await job.result(timeout=10) == 1


async def test_a_drain_ends_when_its_worker_is_quieted(app: Rowlock, gate: Gate) -> None:
    await app.enqueue("hold", {"number": 1})
    worker = app.worker(concurrency=1)
    draining = asyncio.create_task(worker.drain())
    await eventually(lambda: gate.has_begun(1))
    await app.enqueue("hold", {"number": 2})
    await app.workers.quiet(worker.id)
    await eventually(hears(worker, "is_quiet"))
    gate.is_open.set()
    assert await asyncio.wait_for(draining, 20) == 1


async def test_a_worker_stays_quiet_under_its_next_lease(app: Rowlock, gate: Gate, connection: Connection) -> None:
    async with Rowlock(
        settings=replace(app.settings, lease=timedelta(seconds=1), heartbeat=timedelta(seconds=0.1))
    ) as own:
        gate.add_to(own)
        async with own.worker() as worker:
            before = worker.id
            await app.workers.quiet(before)
            await eventually(hears(worker, "is_quiet"))
            await connection.execute(RUN_OUT, before)
            await eventually(lambda: worker.id != before and worker.is_leased)
            assert (await app.workers.get(worker.id)).state == "quiet"
            job = await app.enqueue("hold", {"number": 1})
            gate.is_open.set()
            await app.workers.resume(worker.id)
            assert await job.result(timeout=10) == 1


async def test_jobs_that_only_a_quiet_worker_would_take_are_taken_by_nobody(
    app: Rowlock, gate: Gate, connection: Connection
) -> None:
    async with app.worker() as worker:
        assert (await app.queues.get("default")).workers == 1
        await app.workers.quiet(worker.id)
        await eventually(hears(worker, "is_quiet"))
        await app.enqueue("hold", {"number": 1})
        assert [(kind.task, kind.why) for kind in await app.unclaimed()] == [("hold", "quiet")]
        assert (await app.queues.get("default")).workers == 0
        finding = judge_workers(await app.database.run("doctor_workers"))
        assert (finding.status, finding.detail) == ("warn", "1 alive, 1 quiet, with 0 slots: none claims jobs")
        async with app.worker() as other:
            gate.is_open.set()
            await eventually(lambda: other.figures is not None and other.figures.counts.claimed == 1)
            assert await app.unclaimed() == []


async def test_a_quiet_worker_leaves_a_job_on_its_last_chance_to_others(
    app: Rowlock, gate: Gate, connection: Connection
) -> None:
    gate.is_open.set()
    async with app.worker() as worker:
        await app.workers.quiet(worker.id)
        await eventually(hears(worker, "is_quiet"))
        job = await app.enqueue("hold", {"number": 1})
        await connection.execute("UPDATE rowlock.job SET crashes = 2")
        async with app.worker():
            assert await job.result(timeout=20) == 1


@pytest.mark.parametrize("verb", ["quiet", "resume", "stop"])
async def test_a_worker_that_is_not_there_is_not_found(app: Rowlock, verb: str) -> None:
    act: Callable[[object], Awaitable[object]] = getattr(app.workers, verb)
    for worker in (UUID(int=1), "nobody"):
        with pytest.raises(WorkerNotFound, match="rowlock workers list"):
            await act(worker)
    assert await app.operations() == []
