"""Leases: what a dead worker held runs elsewhere, what it says afterwards is refused, and a live one loses nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings, Snooze
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.loop.slots import Slots
from rowlock.worker.vitals.lease import Lease, Renewals
from tests.db.dead_workers import add_worker, die_with, expire, hand_to, is_rescued, with_busy_upkeep
from tests.db.rows import attempts_of, row_of
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


@pytest.fixture
async def bystander(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application without tasks: its worker does the upkeep and takes no job."""
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
async def brief(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application whose workers' leases are short."""
    short = replace(settings, lease=timedelta(seconds=0.6), heartbeat=timedelta(seconds=0.1))
    async with Rowlock(settings=short) as opened:
        yield opened


# The rescue.


async def test_a_job_of_a_dead_worker_runs_elsewhere_and_its_crash_is_no_error(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def work(job: Job) -> list[int]:
        return [job.attempt, job.crashes, job.errors]

    handle = await work.using(unique="k").enqueue()
    dead = await die_with(connection, handle.id)
    async with app.worker() as worker:
        assert await handle.result(timeout=10) == [2, 1, 0]
        survivor = worker.id
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["crashes"], row["errors"]) == ("succeeded", 2, 1, 0)
    assert row["worker"] == survivor
    [told] = await attempts_of(connection, handle.id)
    assert (told["attempt"], told["outcome"], told["worker"]) == (1, "crashed", dead)
    assert "stopped renewing its lease" in told["message"]


async def test_a_job_that_takes_its_workers_down_is_set_aside(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=10)
    async def poison() -> None: ...

    handle = await poison.using(unique="k").enqueue()
    dead = []
    with capture_logs() as logs:
        async with bystander.worker():
            for crashes in (1, 2, 3):
                dead.append(await die_with(connection, handle.id))
                await eventually(lambda: is_rescued(connection, handle.id))
                row = await row_of(connection, handle.id)
                assert (row["crashes"], row["attempt"], row["errors"]) == (crashes, crashes, 0)
                assert row["state"] == ("failed" if crashes == 3 else "queued")
    assert "3 workers in a row died" in (await row_of(connection, handle.id))["error"]
    told = await attempts_of(connection, handle.id)
    assert [(row["attempt"], row["outcome"], row["worker"]) for row in told] == [
        (n, "crashed", worker) for n, worker in enumerate(dead, 1)
    ]
    seen = [entry["event"] for entry in logs if entry.get("job_id") == str(handle.id)]
    assert seen == ["job_rescued", "job_rescued", "job_quarantined"]
    told_of = [entry["dead_worker"] for entry in logs if entry.get("job_id") == str(handle.id)]
    assert told_of == [str(worker) for worker in dead]
    assert not any(entry.get("worker") in told_of for entry in logs), "that is the one that logs"
    assert not (await poison.using(unique="k").enqueue()).is_duplicate, "its key is free"


async def test_more_orphans_than_a_batch_are_all_rescued_and_poison_among_them_is_no_obstacle(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work(n: int) -> None: ...

    handles = await app.enqueue_many([work.using(unique=str(n)).job(n) for n in range(1200)])
    poison = await connection.fetch(
        "UPDATE rowlock.job SET crashes = 2 WHERE (args ->> 'n')::int % 10 = 0 RETURNING id"
    )
    await die_with(connection, *({handle.id for handle in handles} - {row["id"] for row in poison}))
    for row in poison:  # each was all that its worker held
        await die_with(connection, row["id"])

    async def none_is_running() -> bool:
        return not await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.jobs WHERE state = 'running')")

    async with bystander.worker():
        await eventually(none_is_running)
    rows = await connection.fetch("SELECT state, crashes, count(*) FROM rowlock.jobs GROUP BY 1, 2 ORDER BY 1")
    assert [tuple(row) for row in rows] == [("failed", 3, 120), ("queued", 1, 1080)]
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome = 'crashed'") == 1200
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 1080


async def test_a_job_whose_worker_has_no_row_is_rescued(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    handle = await work.enqueue()
    await hand_to(connection, uuid7(), handle.id)
    async with bystander.worker():
        await eventually(lambda: is_rescued(connection, handle.id))
    row = await row_of(connection, handle.id)
    assert (row["state"], row["crashes"]) == ("queued", 1)


async def test_a_job_of_a_live_worker_is_never_rescued_however_long_it_runs(
    app: Rowlock, bystander: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    long, lost = await work.enqueue(), await work.enqueue()
    alive = await add_worker(connection, timedelta(hours=1))
    await hand_to(connection, alive, long.id)
    await connection.execute("UPDATE rowlock.job SET started_at = now() - interval '9 days' WHERE id = $1", long.id)
    await hand_to(connection, uuid7(), lost.id)
    async with bystander.worker():
        await eventually(lambda: is_rescued(connection, lost.id))  # so it looked at both
    row = await row_of(connection, long.id)
    assert (row["state"], row["worker"], row["crashes"]) == ("running", alive, 0)


async def test_workers_that_are_gone_are_forgotten_once_they_hold_nothing(connection: Connection, app: Rowlock) -> None:
    @app.task
    async def work() -> None: ...

    alive = await add_worker(connection, timedelta(hours=1))
    gone = await add_worker(connection, timedelta(seconds=-70))
    just_now = await add_worker(connection, timedelta(seconds=-50))
    holding = await die_with(connection, (await work.enqueue()).id)
    for worker in (alive, gone, uuid7()):
        await connection.execute(statement("mark_idle", "rowlock"), worker, ["default", "email"])
    await connection.execute(statement("forget_workers", "rowlock"))
    left = {row["id"] for row in await connection.fetch("SELECT id FROM rowlock.worker")}
    assert left == {alive, just_now, holding}
    marks = {row["worker"] for row in await connection.fetch("SELECT worker FROM rowlock.idle_worker")}
    assert marks == {alive}


# The fence.


async def test_what_a_stale_worker_reports_is_refused_and_counted(app: Rowlock, connection: Connection) -> None:
    began, go = Counter[str](), asyncio.Event()

    @app.task(backoff=60)
    async def work(how: str) -> str:
        began[how] += 1
        await go.wait()
        if how == "error":
            raise ValueError(how)
        if how == "snooze":
            raise Snooze(60)
        return how

    ways = ("success", "error", "snooze")
    handles = {how: await work.enqueue(how) for how in ways}
    with capture_logs() as logs:
        async with app.worker() as worker:
            await eventually(lambda: began.total() == 3)
            newer = await add_worker(connection, timedelta(hours=1))
            await hand_to(connection, newer, *(handle.id for handle in handles.values()))
            go.set()
            await eventually(lambda: worker._shift.finishes.refused == 3)
    for how, handle in handles.items():
        row = await row_of(connection, handle.id)
        assert (row["state"], row["attempt"], row["worker"], row["errors"]) == ("running", 2, newer, 0), how
        assert await attempts_of(connection, handle.id) == []
    refused = [entry for entry in logs if entry["event"] == "finish_refused"]
    assert {entry["job_id"] for entry in refused} == {str(handle.id) for handle in handles.values()}
    assert began == Counter(ways)


async def test_a_stale_outcome_does_not_take_its_batch_with_it(app: Rowlock, connection: Connection) -> None:
    began, go = Counter[int](), asyncio.Event()

    @app.task
    async def work(n: int) -> int:
        began[n] += 1
        await go.wait()
        return n

    handles = await app.enqueue_many([work.job(n) for n in range(20)])
    async with app.worker() as worker:
        await eventually(lambda: began.total() == 20)
        newer = await add_worker(connection, timedelta(hours=1))
        await connection.execute("UPDATE rowlock.job SET worker = $2 WHERE id = $1", handles[7].id, newer)
        go.set()
        for n, handle in enumerate(handles):
            if n != 7:
                assert await handle.result(timeout=10) == n
        assert worker._shift.finishes.refused == 1
    assert (await row_of(connection, handles[7].id))["worker"] == newer


# A worker's own lease.


async def test_a_worker_that_lost_its_lease_stops_its_jobs_and_begins_anew(
    brief: Rowlock, connection: Connection
) -> None:
    cancelled = []

    @brief.task(max_attempts=1)
    async def work(job: Job) -> list[int]:
        if job.attempt == 1:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(job.id)
                raise
        return [job.attempt, job.crashes]

    handle = await work.enqueue()
    async with brief.worker(concurrency=1) as worker:
        first = worker.id

        async def is_running() -> bool:
            return (await handle.get()).state == "running"

        await eventually(is_running)
        await expire(connection, first)
        assert await handle.result(timeout=10) == [2, 1]
        assert worker.id != first
        assert cancelled == [handle.id]
    told = await attempts_of(connection, handle.id)
    assert [(row["attempt"], row["outcome"], row["worker"]) for row in told] == [(1, "crashed", first)]


async def test_a_handler_that_blocks_the_loop_does_not_cost_the_lease(brief: Rowlock, connection: Connection) -> None:
    is_blocked = threading.Event()

    @brief.task
    async def block(job: Job) -> int:
        is_blocked.set()
        time.sleep(1.5)  # noqa: ASYNC251  # that is the test
        return job.attempt

    async def watch() -> list[bool]:
        """From a thread of its own: whether the lease held, as long as the handler blocks."""
        assert is_blocked.wait(10)
        other = await asyncpg.connect(brief.settings.database_url)
        seen = []
        until = time.monotonic() + 1.3
        while time.monotonic() < until:
            await other.fetch(statement("rescue", "rowlock"), 3, 100, True)
            seen.append(await other.fetchval("SELECT bool_and(expires_at > clock_timestamp()) FROM rowlock.worker"))
        await other.close()
        return seen

    handle = await block.enqueue()
    watching = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(watch())))
    async with brief.worker() as worker:
        first = worker.id
        assert await handle.result(timeout=10) == 1
        assert worker.id == first
    seen = await watching
    assert len(seen) > 5
    assert all(seen)
    assert (await row_of(connection, handle.id))["crashes"] == 0


async def test_a_lease_that_cannot_be_renewed_is_given_up_in_time_and_begun_again(
    settings: Settings, connection: Connection
) -> None:
    began, ended = asyncio.Event(), asyncio.Event()
    # Its last fifth is for stopping the handlers: long enough for a busy machine.
    app = Rowlock(settings=replace(settings, lease=timedelta(seconds=4), heartbeat=timedelta(seconds=0.5)))

    @app.task
    async def work(job: Job) -> int:
        began.set()
        if job.attempt == 1:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        return job.attempt

    handle = await work.enqueue()
    async with app, app.worker() as worker:
        first = worker.id
        await asyncio.wait_for(began.wait(), 10)
        # No error of the connection, and not the lease's fault either: a full disk is of this kind.
        await connection.execute("ALTER TABLE rowlock.worker ADD CONSTRAINT full_disk CHECK (pid = 0) NOT VALID")
        await asyncio.wait_for(ended.wait(), 10)
        expired = await connection.fetchval("SELECT expires_at <= clock_timestamp() FROM rowlock.worker")
        assert expired is False, "it stopped its handlers before its lease ran out"
        await connection.execute("ALTER TABLE rowlock.worker DROP CONSTRAINT full_disk")
        assert await handle.result(timeout=10) == 2
        assert worker.id != first


async def test_a_clean_stop_ends_the_lease_at_once(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def work() -> None: ...

    async with app.worker() as worker:
        await (await work.enqueue()).result(timeout=10)
        mine = worker.id
        row = await connection.fetchrow("SELECT * FROM rowlock.worker WHERE id = $1", mine)
        assert row is not None
        assert (row["queues"], row["tasks"], row["concurrency"]) == (["default"], ["work"], 50)
        left = row["expires_at"] - await connection.fetchval("SELECT clock_timestamp()")
        assert timedelta(seconds=5) < left <= timedelta(seconds=15)
    has_ended = "SELECT expires_at = '-infinity' FROM rowlock.worker WHERE id = $1"
    assert await connection.fetchval(has_ended, mine) in {True, None}  # None: its own upkeep has forgotten it already
    assert not [thread for thread in threading.enumerate() if thread.name == "rowlock-lease"]


async def test_attempts_cancelled_before_their_first_step_leave_their_slots() -> None:
    ended: list[str | None] = []

    async def perform(attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(attempt.stop)
            on_end(attempt)

    rows: Any = [{"id": uuid7(), "queue": "default"} for _ in range(3)]
    slots = Slots(3, {"default": 3}, perform, lambda: None)
    slots.add(rows, Lease(Settings(), "", renewals=Renewals(), on_lost=lambda _: None))
    slots.stop("lease")  # in the same turn of the loop
    await eventually(lambda: slots.is_empty)
    assert ended == ["lease"] * 3
    assert slots.limits() == {"default": 3}


async def test_two_outcomes_of_one_job_in_one_batch_are_one_end(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def work() -> None: ...

    worker = await add_worker(connection, timedelta(hours=1))
    for name, further in (
        ("succeed", [["1", "2"]]),
        ("fail", [["failed"] * 2, ["failed"] * 2, [True] * 2, [None] * 2, ["1", "2"], [None] * 2]),
        ("again", [[timedelta(0)] * 2, ["error"] * 2, [True] * 2, [None] * 2, ["1", "2"], [None] * 2]),
    ):
        job = (await work.enqueue()).id
        await hand_to(connection, worker, job)
        await connection.execute("UPDATE rowlock.job SET attempt = 2 WHERE id = $1", job)
        given = [further[0], [0.1, 0.1]] if name == "succeed" else [[0.1, 0.1], *further]
        await connection.fetch(statement(name, "rowlock"), worker, [job, job], [1, 2], *given)
        seen = await connection.fetch("SELECT attempt, result, error FROM rowlock.jobs WHERE id = $1", job)
        assert [(row["attempt"], row["result"] or row["error"]) for row in seen] == [(2, "2")], name
    told = await connection.fetch("SELECT attempt FROM rowlock.attempt")
    assert [row["attempt"] for row in told] == [2, 2]
