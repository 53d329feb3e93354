"""Jobs on their last chance: each runs while its worker holds nothing else, and only so can it be set aside."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker import attention
from rowlock.worker.duties import suspects
from rowlock.worker.loop import suspects as alone
from tests.db.claimants import CLAIMANT, hold, register
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock.worker.worker import Worker

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(autouse=True)
async def _registered(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await register(connection)


@pytest.fixture
async def settings(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Upkeep many times a second."""
    monkeypatch.setattr(attention, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(suspects, "HOLD", timedelta(seconds=0.3))
    monkeypatch.setattr(alone, "STEP_SECONDS", 0.02)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE rowlock.duty SET every = '50 ms' WHERE name IN ('rescue', 'suspects')")
    await connection.close()
    return Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


class Stage:
    """The tasks of these tests: what runs, in which order it began, and how much ran at once."""

    def __init__(self, app: Rowlock) -> None:
        self.began: list[str] = []
        self.running: set[str] = set()
        self.beside: dict[str, set[str]] = {}
        self.open = asyncio.Event()
        self.hold = app.task(name="hold")(self._hold)
        self.quick = app.task(name="quick")(self._quick)

    async def _hold(self, name: str) -> None:
        with self._on_stage(name):
            await self.open.wait()

    async def _quick(self, name: str) -> None:
        with self._on_stage(name):
            await asyncio.sleep(0.001)

    def _on_stage(self, name: str) -> OnStage:
        return OnStage(self, name)


class OnStage:
    """One run, while it lasts."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.stage, self.name = stage, name

    def __enter__(self) -> None:
        self.stage.began.append(self.name)
        self.stage.beside[self.name] = set(self.stage.running)
        for other in self.stage.running:
            self.stage.beside[other].add(self.name)
        self.stage.running.add(self.name)

    def __exit__(self, *_: object) -> None:
        self.stage.running.discard(self.name)


@pytest.fixture
def stage(app: Rowlock) -> Stage:
    return Stage(app)


async def add_job(connection: Connection, task: str, name: str, *, crashes: int = 2, **columns: object) -> UUID:
    job = uuid7()
    named = "".join(f", {column}" for column in columns)
    values = "".join(f", ${number}" for number, _ in enumerate(columns, 5))
    await connection.execute(
        f"INSERT INTO rowlock.job (id, task, args, crashes{named}) VALUES ($1, $2, $3, $4{values})",
        job,
        task,
        json.dumps({"name": name}),
        crashes,
        *columns.values(),
    )
    return job


async def add_dead_worker(connection: Connection, *jobs: UUID) -> None:
    """A worker that runs these jobs, and whose lease has run out."""
    worker = uuid7()
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "VALUES ($1, 'elsewhere', 1, '0', '{}', '{}', 1, now() - interval '10 s')",
        worker,
    )
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = attempt + 1, worker = $1, started_at = now() "
        "WHERE id = ANY($2)",
        worker,
        jobs,
    )
    await hold(connection)


async def states(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT state, count(*) FROM rowlock.jobs GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


async def all_succeeded(connection: Connection, count: int) -> bool:
    return await states(connection) == {"succeeded": count}


@asynccontextmanager
async def claims_of(settings: Settings, max_crashes: int = 3) -> AsyncIterator[Claims]:
    connection = ControlConnection(settings, settings.database_url or "", purpose="claim")
    try:
        yield Claims(connection, ["default", "other"], ["noop"], max_crashes=max_crashes)
    finally:
        await connection.close()


# The claims.


@pytest.mark.parametrize("max_crashes, taken", [(1, [0]), (2, [0]), (3, [0, 1]), (4, [0, 1, 2])])
async def test_the_claim_passes_over_what_is_on_its_last_chance(
    max_crashes: int, taken: list[int], settings: Settings, connection: Connection
) -> None:
    for crashes in range(3):
        await add_job(connection, "noop", "", crashes=crashes)
    async with claims_of(settings, max_crashes) as claims:
        assert await claims.is_suspect_due() == (taken != [0, 1, 2])
        assert [row["crashes"] for row in await claims.claim(CLAIMANT, 10, {})] == taken
        for crashes in sorted({0, 1, 2} - set(taken)):
            [row] = await claims.claim_alone(CLAIMANT)
            assert row["crashes"] == crashes
        assert await claims.claim_alone(CLAIMANT) == []
        assert not await claims.is_suspect_due()


async def test_of_those_on_their_last_chance_the_most_urgent_one_comes_first_and_alone(
    settings: Settings, connection: Connection
) -> None:
    jobs = [
        await add_job(connection, "noop", "", priority=priority, queue=queue)
        for priority, queue in [(3, "default"), (5, "default"), (9, "other"), (5, "default")]
    ]
    async with claims_of(settings) as claims:
        claimed = [await claims.claim_alone(CLAIMANT) for _ in range(4)]
    assert [[row["id"] for row in rows] for rows in claimed] == [[jobs[n]] for n in (2, 1, 3, 0)]


async def test_nothing_is_claimed_alone_that_the_claim_would_not_take_either(
    settings: Settings, connection: Connection
) -> None:
    later = await connection.fetchval("SELECT now() + interval '1 hour'")
    await add_job(connection, "noop", "", run_at=later)
    await add_job(connection, "noop", "", ends_at=later - timedelta(hours=2))
    await add_job(connection, "noop", "", queue="not_served")
    blocked = await add_job(connection, "noop", "")
    block = "UPDATE rowlock.job SET state = 'blocked', run_at = 'infinity', due_at = now() WHERE id = $1"
    await connection.execute(block, blocked)
    await add_job(connection, "of_another_deploy", "")
    async with claims_of(settings) as claims:
        assert await claims.claim_alone(CLAIMANT) == []
        assert not await claims.is_suspect_due()
        await connection.execute("UPDATE rowlock.job SET ends_at = $1 WHERE ends_at IS NOT NULL", later)
        assert await claims.is_suspect_due()
        [row] = await claims.claim_alone(CLAIMANT)
        assert row["times"][0] == later


async def test_what_waits_to_run_alone_does_not_count_as_left_behind(
    settings: Settings, connection: Connection
) -> None:
    async with claims_of(settings) as claims:
        await add_job(connection, "noop", "")
        for _ in range(5):
            await add_job(connection, "noop", "", crashes=0)
            assert len(await claims.claim(CLAIMANT, 10, {})) == 1
        settled = claims.settled
        cursors = (
            [lane.queue for lane in settled],
            [lane.priority for lane in settled],
            [position.run_at for position in settled.values()],
            [position.id for position in settled.values()],
            ["noop"],
        )
        assert await connection.fetchval(statement("late", "rowlock"), *cursors, 2) is False
        assert await connection.fetchval(statement("late", "rowlock"), *cursors, 3) is True, "it is behind them"


# The rescue.


async def test_a_crash_beside_others_sets_nothing_aside(app: Rowlock, stage: Stage, connection: Connection) -> None:
    """As after a claim whose answer was lost, or beside workers with another `max_crashes`."""
    jobs = [await add_job(connection, "quick", str(crashes), crashes=crashes) for crashes in (0, 2, 2)]
    await add_dead_worker(connection, *jobs)
    async with app.worker():
        await eventually(lambda: all_succeeded(connection, 3))
    rows = await connection.fetch("SELECT crashes FROM rowlock.jobs ORDER BY crashes")
    assert [row["crashes"] for row in rows] == [1, 3, 3], "all are counted"


async def test_without_a_second_chance_all_that_a_dead_worker_held_is_set_aside(
    settings: Settings, connection: Connection
) -> None:
    jobs = [await add_job(connection, "quick", "", crashes=0) for _ in range(3)]
    await add_dead_worker(connection, *jobs)
    async with Rowlock(settings=replace(settings, max_crashes=1)) as strict, strict.worker():

        async def all_failed() -> bool:
            return await states(connection) == {"failed": 3}

        await eventually(all_failed)


# The worker.


async def test_a_job_on_its_last_chance_waits_for_what_runs_and_what_comes_waits_for_it(
    app: Rowlock, stage: Stage, connection: Connection
) -> None:
    async with app.worker() as worker:
        await stage.hold.enqueue("before")
        await eventually(lambda: stage.running == {"before"})
        await add_job(connection, "hold", "suspect")
        await eventually(lambda: worker._shift.alone.is_wanted)
        await stage.hold.enqueue("after")
        await several_steps(worker)
        assert stage.began == ["before"]
        stage.open.set()
        await eventually(lambda: all_succeeded(connection, 3))
        assert stage.began == ["before", "suspect", "after"]
        assert stage.beside["suspect"] == set()
        assert not worker._shift.alone.is_wanted


async def several_steps(worker: Worker) -> None:
    steps = 0
    step = worker._shift.alone.step

    async def counted() -> None:
        nonlocal steps
        steps += 1
        await step()

    worker._shift.alone.step = counted  # type: ignore[method-assign]
    await eventually(lambda: steps >= 5)


async def test_room_is_not_made_for_a_job_that_is_gone(app: Rowlock, stage: Stage, connection: Connection) -> None:
    async with app.worker() as worker:
        await stage.hold.enqueue("before")
        await eventually(lambda: stage.running == {"before"})
        suspect = await add_job(connection, "quick", "suspect")
        await eventually(lambda: worker._shift.alone.is_wanted)
        await app.jobs.cancel(suspect)
        await stage.quick.enqueue("after")
        await eventually(lambda: stage.began == ["before", "after"])
        stage.open.set()


async def test_a_job_claimed_ahead_is_given_back_to_make_room(
    app: Rowlock, stage: Stage, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.main_loop.STALE_SECONDS", 3600.0)
    async with app.worker(concurrency=1) as worker:
        await stage.hold.enqueue("before")
        await eventually(lambda: stage.running == {"before"})
        worker._shift.slots._pace.ahead = 1
        ahead = await stage.hold.enqueue("ahead")
        worker._shift.slots.add(await worker._shift.claims.claim(worker.id, 1, {}), worker._shift.lease)
        assert worker._shift.slots.known() > {ahead.id}
        await add_job(connection, "quick", "suspect")

        async def is_back() -> bool:
            return (await app.get(ahead.id)).state == "queued"

        await eventually(is_back)
        stage.open.set()
        await eventually(lambda: all_succeeded(connection, 3))
    assert stage.began == ["before", "suspect", "ahead"]


async def test_nothing_runs_alone_while_an_outcome_is_not_recorded(
    app: Rowlock, stage: Stage, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = asyncio.Event()
    async with app.worker() as worker:
        fetch = worker._shift.links.finish.fetch

        async def fetch_slowly(name: str, *parameters: object) -> list[asyncpg.Record]:
            await slow.wait()
            return await fetch(name, *parameters)

        monkeypatch.setattr(worker._shift.links.finish, "fetch", fetch_slowly)
        await stage.quick.enqueue("before")
        await eventually(lambda: stage.began == ["before"] and not stage.running)
        await add_job(connection, "quick", "suspect")
        await eventually(lambda: worker._shift.alone.is_wanted)
        await several_steps(worker)
        assert await states(connection) == {"running": 1, "queued": 1}
        slow.set()
        await eventually(lambda: all_succeeded(connection, 2))


async def test_one_worker_makes_room_and_the_others_go_on(
    app: Rowlock, stage: Stage, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "HOLD", timedelta(seconds=2))
    monkeypatch.setattr(alone.Alone, "notice", lambda _: None)  # an idle worker would take it at once
    numbers = {str(n) for n in range(20)}
    async with app.worker(concurrency=2) as first:
        await stage.hold.enqueue("one")
        await eventually(lambda: stage.running == {"one"})
        await add_job(connection, "quick", "suspect")
        await eventually(lambda: first._shift.alone.is_wanted)
        async with app.worker() as second:
            for number in numbers:
                await stage.quick.enqueue(number)
            await eventually(lambda: numbers <= set(stage.began))
            for _ in range(3):
                held = await due_at(connection)
                await eventually(lambda held=held: is_due_later(connection, held))  # type: ignore[misc]
                assert (first._shift.alone.is_wanted, second._shift.alone.is_wanted) == (True, False)
            assert "suspect" not in stage.began
            stage.open.set()
            await eventually(lambda: all_succeeded(connection, 22))
            ran_in = await connection.fetchval("SELECT worker FROM rowlock.jobs WHERE crashes > 0")
            assert ran_in == first.id


async def test_a_worker_that_holds_nothing_takes_one_while_another_one_makes_room(
    app: Rowlock, stage: Stage, connection: Connection
) -> None:
    async with app.worker(concurrency=2) as first:
        await stage.hold.enqueue("one")
        await eventually(lambda: stage.running == {"one"})
        await add_job(connection, "quick", "suspect")
        await eventually(lambda: first._shift.alone.is_wanted)
        async with app.worker() as second:
            await eventually(lambda: "suspect" in stage.began)
            await eventually(lambda: not first._shift.alone.is_wanted)
            stage.open.set()
            await eventually(lambda: all_succeeded(connection, 2))
            ran_in = await connection.fetchval("SELECT worker FROM rowlock.jobs WHERE crashes > 0")
            assert ran_in == second.id


async def due_at(connection: Connection) -> datetime:
    found: datetime = await connection.fetchval("SELECT next_run_at FROM rowlock.duty WHERE name = 'suspects'")
    return found


async def is_due_later(connection: Connection, than: datetime) -> bool:
    return await due_at(connection) > than + timedelta(seconds=0.1)


async def test_a_worker_that_stops_leaves_it_to_another_one(app: Rowlock, stage: Stage, connection: Connection) -> None:
    first = app.worker()
    async with first:
        await stage.hold.enqueue("one")
        await eventually(lambda: stage.running == {"one"})
        await add_job(connection, "quick", "suspect")
        await eventually(lambda: first._shift.alone.is_wanted)
        async with app.worker() as second:
            first.stop(grace=30)
            await eventually(lambda: "suspect" in stage.began)
            assert "one" in stage.running
            stage.open.set()
            await eventually(lambda: all_succeeded(connection, 2))
            ran_in = await connection.fetchval("SELECT worker FROM rowlock.jobs WHERE crashes > 0")
            assert ran_in == second.id


async def test_a_worker_that_loses_its_lease_while_it_makes_room_begins_anew(
    settings: Settings, connection: Connection
) -> None:
    brief = replace(settings, lease=timedelta(seconds=0.6), heartbeat=timedelta(seconds=0.1))
    async with Rowlock(settings=brief) as app:
        stage = Stage(app)
        async with app.worker() as worker:
            await stage.hold.enqueue("one")
            await eventually(lambda: stage.running == {"one"})
            await add_job(connection, "quick", "suspect")
            await eventually(lambda: worker._shift.alone.is_wanted)
            before = worker.id
            await connection.execute("UPDATE rowlock.worker SET expires_at = '-infinity' WHERE id = $1", before)
            await eventually(lambda: worker.id != before)
            stage.open.set()
            await eventually(lambda: all_succeeded(connection, 2))
    assert stage.beside["suspect"] == set()


async def test_after_enough_of_them_the_worker_takes_other_jobs_in_between(
    app: Rowlock, stage: Stage, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alone, "ENOUGH_SECONDS", 0.0)
    for n in range(3):
        await add_job(connection, "quick", f"suspect {n}")
    async with app.worker():
        await eventually(lambda: "suspect 0" in stage.began)
        await stage.quick.enqueue("plain")
        await eventually(lambda: all_succeeded(connection, 4))
    assert stage.began.index("plain") < stage.began.index("suspect 2")
    assert all(stage.beside[f"suspect {n}"] == set() for n in range(3))


async def test_a_drain_runs_them_too_each_alone(app: Rowlock, stage: Stage, connection: Connection) -> None:
    suspects = {f"suspect {n}" for n in range(5)}
    for name in suspects:
        await add_job(connection, "quick", name)
    for n in range(20):
        await stage.quick.enqueue(str(n))
    assert await app.worker().drain() == 25
    assert await states(connection) == {"succeeded": 25}
    assert all(stage.beside[name] == set() for name in suspects)


async def test_a_drain_needs_no_upkeep_for_that(app: Rowlock, stage: Stage, connection: Connection) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity'")
    for n in range(3):
        await add_job(connection, "quick", f"suspect {n}")
    await add_job(connection, "of_another_deploy", "")
    assert await app.worker().drain() == 3


async def test_one_whose_claim_was_lost_is_given_back_and_runs_alone_later(
    app: Rowlock, stage: Stage, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = 0

    @app.task
    async def tell(job: Job, name: str) -> list[int]:
        with OnStage(stage, name):
            return [job.attempt, job.crashes]

    async with app.worker() as worker:
        fetch = worker._shift.links.claim.fetch

        async def lose_the_answer(name: str, *parameters: object) -> list[asyncpg.Record]:
            nonlocal lost
            rows = await fetch(name, *parameters)
            if name == "claim_alone" and rows and not lost:
                lost += 1
                raise ConnectionResetError("the answer was lost")
            return rows

        monkeypatch.setattr(worker._shift.links.claim, "fetch", lose_the_answer)
        suspect = await add_job(connection, "tell", "suspect")
        await eventually(lambda: lost)
        await eventually(lambda: all_succeeded(connection, 1))
    job = await app.get(suspect)
    assert (job.result, lost) == ([2, 2], 1)
    assert stage.beside["suspect"] == set()
