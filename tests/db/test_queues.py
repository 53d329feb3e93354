"""Operating queues and workers: pause, resume, drain and scale, while enqueuers and workers go on."""

from __future__ import annotations

import asyncio
import math
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import DrainTimeout, InvalidOption, Rowlock, Settings, WorkerNotFound
from rowlock.queue.claim.claims import Claims
from rowlock.queue.claim.cursors import BEGINNING
from rowlock.queue.connect.sessions import ControlConnection
from tests.db.claimants import CLAIMANT, register
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def _registered(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await register(connection)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))) as made:
        yield made


async def claims_on(settings: Settings) -> tuple[ControlConnection, Claims]:
    assert settings.database_url is not None
    connection = ControlConnection(settings, settings.database_url, purpose="claim")
    return connection, Claims(connection, ["default", "other"], ["noop"])


@pytest.mark.usefixtures("_registered")
async def test_no_claim_takes_a_job_of_a_paused_queue_and_others_are_taken(
    app: Rowlock, connection: Connection
) -> None:
    for queue in ("default", "other"):
        await connection.execute("SELECT rowlock.enqueue('noop', queue => $1)", queue)
    paused = await app.queues.pause("default", by="ada")
    assert paused.paused_at is not None
    assert (paused.waiting, paused.workers) == (1, 0)
    claiming, claims = await claims_on(app.settings)
    claimed = await claims.claim(CLAIMANT, 10, {}, looks_ahead=True)
    assert [row["queue"] for row in claimed] == ["other"]
    assert claims.open_queues == ["other"]
    assert claims.next_due_in() == math.inf
    await app.queues.resume("default")
    assert [row["queue"] for row in await claims.claim(CLAIMANT, 10, {})] == ["default"]
    assert sorted(claims.open_queues) == ["default", "other"]
    await claiming.close()


@pytest.mark.needs_session("without notifications a worker polls")
async def test_a_sleeping_worker_sees_that_a_queue_goes_on_though_nobody_tells_it(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 3600)
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=60))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def noop() -> None: ...

        await app.queues.pause("default")
        job = await noop.enqueue()
        async with app.worker() as worker:
            await eventually(lambda: worker._shift.doze._is_marked)
            await connection.execute("UPDATE rowlock.queue SET paused_at = NULL")
            await job.result(timeout=20)


async def test_a_job_whose_claim_was_answered_after_the_pause_does_not_begin(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.05)
    run, claimed, is_answered = ControlConnection._run, asyncio.Event(), asyncio.Event()

    async def run_late(self: ControlConnection, *given: Any) -> list[asyncpg.Record]:  # noqa: ANN401
        rows = await run(self, *given)
        if given[1] == "claim" and len(rows) > 1 and not is_answered.is_set():
            claimed.set()
            await is_answered.wait()
        return rows

    monkeypatch.setattr(ControlConnection, "_run", run_late)
    began: list[int] = []

    @app.task(batch=10, batch_wait=30)
    async def work(numbers: list[int]) -> None:
        began.extend(numbers)

    async with app.worker() as worker:
        job = await work.enqueue(1)
        await claimed.wait()
        await app.queues.pause("default")
        await eventually(lambda: worker._shift.orders._paused == {"default"})
        is_answered.set()
        given_back = "SELECT state = 'queued' AND attempt = 1 FROM rowlock.job WHERE id = $1"
        await eventually(lambda: connection.fetchval(given_back, job.id), timeout=20)
        assert began == []


@pytest.mark.usefixtures("_registered")
async def test_claims_do_not_believe_that_they_have_seen_the_jobs_of_a_paused_queue(
    app: Rowlock, connection: Connection
) -> None:
    claiming, claims = await claims_on(app.settings)
    await app.queues.pause("default")
    job = await connection.fetchval("SELECT rowlock.enqueue('noop')")
    for _ in range(5):
        await connection.execute("SELECT rowlock.enqueue('noop', queue => 'other')")
        await claims.claim(CLAIMANT, 10, {})
    assert {lane.queue for lane, position in claims.settled.items() if position > BEGINNING} == {"other"}
    await app.queues.resume("default")
    assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job]
    await claiming.close()


@pytest.mark.usefixtures("_registered")
async def test_a_job_on_its_last_chance_waits_in_a_paused_queue_too(app: Rowlock, connection: Connection) -> None:
    job = await connection.fetchval("SELECT rowlock.enqueue('noop')")
    await connection.execute("UPDATE rowlock.job SET crashes = 2")
    claiming, claims = await claims_on(app.settings)
    await app.queues.pause("default")
    assert not await claims.is_suspect_due()
    assert await claims.claim_alone(CLAIMANT) == []
    await app.queues.resume("default")
    assert await claims.is_suspect_due()
    assert [row["id"] for row in await claims.claim_alone(CLAIMANT)] == [job]
    await claiming.close()


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_job_is_missed_and_none_starts_after_a_pause_while_queues_are_paused_and_resumed(
    seed: int, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(seed)
    runs = Counter[int]()
    pauses: list[tuple[float, float]] = []
    taking: list[tuple[float, float]] = []
    claim = Claims.claim

    async def watched(claims: Claims, *given: Any, **options: Any) -> list[asyncpg.Record]:  # noqa: ANN401
        began = time.monotonic()
        rows = await claim(claims, *given, **options)
        taking.extend([(began, time.monotonic())] * bool(rows))
        return rows

    monkeypatch.setattr(Claims, "claim", watched)

    @app.task(queue="email")
    async def send(number: int) -> None:
        runs[number] += 1
        await asyncio.sleep(chance.uniform(0, 0.005))

    async with app.worker(queues=["email"], concurrency=5), app.worker(queues={"email": 3}, concurrency=5):
        for first in range(0, 200, 20):
            await app.enqueue_many([send.job(number) for number in range(first, first + 20)])
            await app.queues.pause("email")
            acknowledged = time.monotonic()
            await send.enqueue(1000 + first)
            await asyncio.sleep(chance.uniform(0, 0.05))
            pauses.append((acknowledged, time.monotonic()))
            await app.queues.resume("email")
        await eventually(lambda: len(runs) == 210)
    assert set(runs.values()) == {1}
    assert not [
        claimed for claimed in taking if any(first < claimed[0] and claimed[1] < last for first, last in pauses)
    ], "a claim that began after the pause was acknowledged took something before it was resumed"


@pytest.mark.needs_session("nobody listens through a transaction pooler")
async def test_a_paused_queue_wakes_nobody_and_its_resumption_wakes_everybody(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 1e-9}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    sleepy = Rowlock(settings=replace(app.settings, poll_interval=timedelta(seconds=60)))

    @sleepy.task
    async def noop() -> None: ...

    async def idle() -> list[str]:
        return [row["queue"] for row in await connection.fetch("SELECT queue FROM rowlock.idle_worker ORDER BY queue")]

    async def is_marked(*queues: str) -> bool:
        return await idle() == list(queues)

    async with sleepy, sleepy.worker(queues=["default", "other"]):
        await eventually(lambda: is_marked("default", "other"))
        await sleepy.queues.pause("default")
        await eventually(lambda: is_marked("other"))
        job = await noop.enqueue()
        await sleepy.queues.resume("default")
        await job.result(timeout=5)
        await eventually(lambda: is_marked("default", "other"))


async def test_jobs_that_were_claimed_ahead_are_given_back_by_a_pause(app: Rowlock, connection: Connection) -> None:
    release, began = asyncio.Event(), asyncio.Event()

    @app.task
    async def wait() -> None:
        began.set()
        await release.wait()

    worker = app.worker(concurrency=1)
    async with worker:
        job = await wait.enqueue()
        await asyncio.wait_for(began.wait(), 5)
        await connection.execute("SELECT rowlock.enqueue('wait', priority => 1)")
        worker._shift.slots.add(
            await worker._shift.claims.claim(worker.id, 1, {}), worker._shift.lease
        )  # as if its pace had been high
        assert (await app.workers.get(worker.id)).running == 2
        await app.queues.pause("default")

        async def is_back() -> bool:
            return bool((await app.queues.get("default")).running == 1)

        await eventually(is_back)
        told = await connection.fetch("SELECT outcome FROM rowlock.attempt")
        assert [row["outcome"] for row in told] == ["released"]
        errors = await connection.fetchval("SELECT sum(errors) FROM rowlock.job")
        assert errors == 0
        release.set()
        await job.result(timeout=5)
        await app.queues.resume("default")
        await eventually(lambda: worker._shift.slots.done == 2)


async def test_drain_waits_for_what_runs_and_stays_paused(app: Rowlock) -> None:
    release, began = asyncio.Event(), asyncio.Event()

    @app.task
    async def wait() -> None:
        began.set()
        await release.wait()

    async with app.worker():
        await wait.enqueue()
        await asyncio.wait_for(began.wait(), 5)
        with pytest.raises(DrainTimeout, match="1 running jobs"):
            await app.queues.drain("default", timeout=0.01, by="ada")
        draining = asyncio.create_task(app.queues.drain("default", timeout=10))
        release.set()
        drained = await draining
        assert (drained.running, drained.paused_at is None) == (0, False)
    (operation,) = await app.operations(target_kind="queue")
    assert (operation.verb, operation.target, operation.by) == ("drain", "default", "ada")


async def test_drain_waits_for_a_claim_that_began_before_the_pause(app: Rowlock, connection: Connection) -> None:
    claim = connection.transaction()
    await claim.start()
    await connection.fetch("SELECT name FROM rowlock.queue")
    await connection.execute("UPDATE rowlock.job SET priority = 5")  # nothing yet: as a claim holds its tables
    draining = asyncio.create_task(app.queues.drain("default", timeout=10))
    await eventually(lambda: _is_paused(app))
    await asyncio.sleep(0.3)
    assert not draining.done()
    await claim.rollback()
    assert (await draining).paused_at is not None


async def _is_paused(app: Rowlock) -> bool:
    return (await app.queues.get("default")).paused_at is not None


async def test_queue_is_scaled_for_workers_that_run_and_for_those_that_start_later(app: Rowlock) -> None:
    running, release = Counter[str](), asyncio.Event()

    @app.task
    async def wait() -> None:
        running["now"] += 1
        running["most"] = max(running["most"], running["now"])
        await release.wait()
        running["now"] -= 1

    await app.queues.scale("default", 2, by="ada")
    await app.enqueue_many([wait.job() for _ in range(8)])
    async with app.worker(queues={"default": 5}, concurrency=6) as worker:
        await eventually(lambda: running["now"] == 2)
        await app.queues.scale("default", 4)
        await eventually(lambda: running["now"] == 4)
        await app.queues.scale("default", None)
        await eventually(lambda: running["now"] == 5)
        await app.queues.scale("default", 1)
        await eventually(lambda: worker._shift.slots.limits() == {"default": -4})
        assert running["most"] == 5
        release.set()
        await eventually(lambda: worker._shift.slots.done == 8)
    told = [(one.by, one.details) for one in await app.operations(verb="scale")]
    assert told[-1] == ("ada", {"concurrency": 2, "before": None})
    assert [details["concurrency"] for _, details in told] == [1, None, 4, 2]


async def test_live_worker_is_scaled_up_and_down_and_its_threads_with_it(app: Rowlock, connection: Connection) -> None:
    running, release = set[int](), threading.Event()

    @app.task
    def wait(number: int) -> None:
        running.add(number)
        release.wait()
        running.discard(number)

    await app.enqueue_many([wait.job(number) for number in range(5)])
    async with app.worker(concurrency=1) as worker:
        try:
            await eventually(lambda: len(running) == 1)
            assert (await app.workers.scale(worker.id, 3, by="ada")).concurrency == 3
            await eventually(lambda: len(running) == 3)
            await app.workers.scale(str(worker.id), 2)
            await eventually(lambda: worker._shift.slots.concurrency == 2)
            assert worker._shift.slots.room() < 0
        finally:
            release.set()
        await eventually(lambda: worker._shift.slots.done == 5)
    first, second = await app.operations(target_kind="worker")
    assert (second.target, second.by, second.details) == (str(worker.id), "ada", {"concurrency": 3, "before": 1})
    assert first.details == {"concurrency": 2, "before": 3}


async def test_queues_and_workers_are_listed_with_what_they_do(app: Rowlock, connection: Connection) -> None:
    for options in ("", ", queue => 'later', delay => '1 hour'", ", queue => 'later', delay => '2 hours'"):
        await connection.execute(f"SELECT rowlock.enqueue('noop'{options})")
    await app.retention.keep("*", failed=timedelta(days=1))
    await app.queues.scale("default", 7)
    default, later = await app.queues.list()
    assert (default.name, default.waiting, default.concurrency, default.paused_at) == ("default", 1, 7, None)
    assert default.oldest_due_at is not None
    assert (later.name, later.scheduled, later.oldest_due_at, later.workers) == ("later", 2, None, 0)
    assert await app.workers.list() == []
    async with app.worker(queues=["default"], concurrency=9) as worker:
        (live,) = await app.workers.list()
        assert (live.id, live.queues, live.concurrency, live.running) == (worker.id, ["default"], 9, 0)
        assert (await app.queues.get("default")).workers == 1


async def test_what_changes_nothing_is_no_error_and_is_not_recorded(app: Rowlock) -> None:
    unknown = await app.queues.pause("tenant-7")
    assert (unknown.workers, unknown.waiting, unknown.running) == (0, 0, 0)
    assert (await app.queues.pause("tenant-7")).paused_at == unknown.paused_at
    await app.queues.resume("tenant-7")
    assert (await app.queues.resume("tenant-7")).paused_at is None
    await app.queues.resume("nobody-knows")
    await app.queues.scale("tenant-7", None)
    assert [one.verb for one in await app.operations(limit=10)] == ["resume", "pause"]


async def test_bad_input_is_refused_with_the_remedy(app: Rowlock) -> None:
    for number in (0, -1, True, 1.5, "5"):
        with pytest.raises(InvalidOption, match=r"concurrency .* at least 1"):
            await app.queues.scale("email", number)  # type: ignore[arg-type]  # on purpose
    for name in ("", "e mail", "tenant-*", None):
        with pytest.raises(InvalidOption, match="letters, digits"):
            await app.queues.pause(name)  # type: ignore[arg-type]  # on purpose
    for worker in (UUID(int=1), "nobody"):
        with pytest.raises(WorkerNotFound, match="rowlock workers list"):
            await app.workers.scale(worker, 1)
    assert await app.queues.list() == []
    assert await app.operations() == []
