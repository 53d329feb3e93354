"""The shift after a lost lease: it takes over operators' orders, and a stop does not wait until it is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import DatabaseUnavailable, Job, Rowlock, Settings, WorkerNotFound
from rowlock.queue.connect.statements import statement
from rowlock.queue.finish.finishes import Finishes
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.attention import Attention
from rowlock.worker.duties.runner import Duties
from rowlock.worker.loop.orders import Orders
from rowlock.worker.shift import Shift
from rowlock.worker.vitals.lease import Lease
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock import Worker

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

RUN_OUT = "UPDATE rowlock.worker SET expires_at = clock_timestamp() WHERE id = $1"
WAITING = "SELECT count(*) >= $1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
ORDERS: dict[str, tuple[Callable[[Rowlock, UUID], Awaitable[object]], Callable[[Any], bool]]] = {
    "quiet": (lambda app, worker: app.workers.quiet(worker), lambda worker: worker.is_quiet),
    "stop": (lambda app, worker: app.workers.stop(worker), lambda worker: worker.is_told_to_stop),
    "scale": (lambda app, worker: app.workers.scale(worker, 7), lambda worker: worker.figures.slots == 7),
}
"""What an operator orders, and whether the worker obeys."""


@pytest.fixture
async def brief(settings: Settings) -> AsyncIterator[Rowlock]:
    """An application whose workers' leases are short."""
    lease, heartbeat = timedelta(seconds=2), timedelta(seconds=0.2)
    async with Rowlock(settings=replace(settings, lease=lease, heartbeat=heartbeat)) as opened:
        yield opened


@pytest.fixture
def inattentive(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that reads its orders only when it registers."""

    async def look(self: Attention) -> None: ...

    monkeypatch.setattr(Attention, "look", look)


@pytest.mark.usefixtures("inattentive")
@pytest.mark.parametrize("order", ORDERS)
async def test_an_order_that_was_not_read_when_the_lease_was_lost_holds_from_the_next_shift_on(
    brief: Rowlock, connection: Connection, order: str
) -> None:
    give, is_obeyed = ORDERS[order]
    worker = brief.worker(concurrency=3)
    running = asyncio.create_task(worker.run(handle_signals=False))
    await eventually(lambda: worker.is_leased)
    before = worker.id
    await give(brief, before)
    assert not is_obeyed(worker)
    await connection.execute(RUN_OUT, before)
    await eventually(lambda: worker.id != before and is_obeyed(worker))
    if order != "stop":
        assert (await brief.workers.get(worker.id)).state == ("quiet" if order == "quiet" else "running")
        worker.stop()
    await asyncio.wait_for(running, 20)


@pytest.mark.usefixtures("inattentive")
async def test_an_order_for_a_shift_whose_beginning_was_not_answered_holds_from_the_one_after_it_on(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, begun = Lease.begin, list[UUID]()

    async def begin_and_lose_the_answer(self: Lease, **given: object) -> None:
        await begin(self, **given)  # type: ignore[arg-type]
        begun.append(self.worker)
        if len(begun) == 2:
            await brief.workers.scale(self.worker, 7)
            raise ConnectionResetError

    monkeypatch.setattr(Lease, "begin", begin_and_lose_the_answer)
    async with brief.worker(concurrency=3) as worker:
        await connection.execute(RUN_OUT, worker.id)
        await eventually(lambda: worker.id in begun[2:])
        assert worker.figures is not None
        assert worker.figures.slots == 7
        assert [one.id for one in await brief.workers.list()] == [worker.id]


async def test_a_shift_that_is_followed_by_another_takes_no_order_although_its_lease_has_not_run_out(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with brief.worker() as worker:
        before = worker.id
        renew = Lease._renew

        async def lose_the_first(self: Lease, *given: object) -> bool:
            return self.worker != before and await renew(self, *given)  # type: ignore[arg-type]

        await connection.execute("UPDATE rowlock.worker SET expires_at = clock_timestamp() + interval '10 s'")
        monkeypatch.setattr(Lease, "_renew", lose_the_first)
        await eventually(lambda: worker.id != before)
        for act in (brief.workers.quiet, brief.workers.resume, brief.workers.stop, brief.workers.get):
            with pytest.raises(WorkerNotFound):
                await act(before)
        with pytest.raises(WorkerNotFound):
            await brief.workers.scale(before, 2)
        assert [one.id for one in await brief.workers.list()] == [worker.id]
        assert (await brief.overview()).workers == 1


async def test_the_next_shift_begins_with_the_orders_that_were_read_last_if_their_row_is_gone(
    brief: Rowlock, connection: Connection
) -> None:
    async with brief.worker(concurrency=3) as worker:
        before = worker.id
        await brief.workers.quiet(before)
        await brief.workers.scale(before, 7)
        await eventually(lambda: worker.is_quiet and worker.figures and worker.figures.slots == 7)
        await connection.execute("DELETE FROM rowlock.worker WHERE id = $1", before)
        await eventually(lambda: worker.id != before)
        assert worker.is_quiet
        assert worker.figures is not None
        assert worker.figures.slots == 7


async def test_a_late_registration_begins_no_lease_beside_the_one_that_followed_and_takes_no_order_from_it(
    brief: Rowlock, connection: Connection, direct_url: str
) -> None:
    """Both wait for the lost lease's row, the late one first: its client is gone, and the server has not noticed."""
    lost, late, next_one = uuid7(), uuid7(), uuid7()
    register = statement("register_worker", "rowlock")

    def given(worker: UUID, follows: list[UUID]) -> tuple[object, ...]:
        return worker, "here", 1, "1", ["default"], [], 3, "running", timedelta(minutes=1), follows

    others = [await asyncpg.connect(direct_url) for _ in range(3)]
    try:
        await connection.execute(register, *given(lost, []))
        await brief.workers.quiet(lost)
        await brief.workers.scale(lost, 7)
        locks = others[0].transaction()
        await locks.start()
        await others[0].execute("SELECT FROM rowlock.worker WHERE id = $1 FOR UPDATE", lost)
        one = asyncio.create_task(others[1].fetchval(register, *given(late, [lost])))
        await eventually(lambda: connection.fetchval(WAITING, 1))
        two = asyncio.create_task(others[2].fetchval(register, *given(next_one, [lost, late])))
        await eventually(lambda: connection.fetchval(WAITING, 2))
        await locks.rollback()
        assert [*await asyncio.gather(one, two)] == [True, True]
        (live,) = await brief.workers.list()
        assert (live.id, live.state, live.concurrency) == (next_one, "quiet", 7)
        assert await connection.fetchval(register, *given(uuid7(), [lost])) is False, "it comes later still"
        assert [one.id for one in await brief.workers.list()] == [next_one]
    finally:
        for other in others:
            other.terminate()


async def test_orders_are_those_that_were_read_last_if_only_a_row_without_its_follower_is_left(
    brief: Rowlock, connection: Connection
) -> None:
    lost, forgotten, next_one = uuid7(), uuid7(), uuid7()
    register = statement("register_worker", "rowlock")
    common: tuple[object, ...] = "here", 1, "1", ["default"], []
    await connection.execute(register, lost, *common, 7, "quiet", timedelta(minutes=1), [])
    await connection.execute(register, forgotten, *common, 3, "running", timedelta(minutes=1), [lost])
    await connection.execute("DELETE FROM rowlock.worker WHERE id = $1", forgotten)
    begun = await connection.fetchval(
        register, next_one, *common, 3, "running", timedelta(minutes=1), [lost, forgotten]
    )
    assert begun is True
    (live,) = await brief.workers.list()
    assert (live.id, live.state, live.concurrency) == (next_one, "quiet", 7)


async def nothing_lives(connection: Connection) -> None:
    """No thread renews a lease, and no row has one that holds."""

    async def is_over() -> bool:
        threads = [one.name for one in threading.enumerate() if one.name == "rowlock-lease"]
        live = await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > clock_timestamp()")
        return not threads and not live

    await eventually(is_over)


@pytest.mark.parametrize("begins", ["the first shift", "the next shift"])
async def test_a_stop_while_a_shift_opens_leaves_no_thread_and_no_live_row(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, begins: str
) -> None:
    is_reading = asyncio.Event()

    async def read_for_ever(self: Orders, control: object) -> None:
        is_reading.set()
        await asyncio.Event().wait()

    async with Rowlock(settings=replace(settings, lease=timedelta(minutes=1))) as app:
        worker = app.worker()
        if begins == "the first shift":
            monkeypatch.setattr(Orders, "read", read_for_ever)
        running = asyncio.create_task(worker.run(handle_signals=False))
        if begins == "the next shift":
            await eventually(lambda: worker.is_leased)
            monkeypatch.setattr(Orders, "read", read_for_ever)
            await connection.execute(RUN_OUT, worker.id)
            worker._shift.lease.check()
        await is_reading.wait()
        worker.stop(grace=0)
        await asyncio.wait_for(running, 20)
        await nothing_lives(connection)


async def test_a_stop_while_a_registration_waits_for_a_lock_registers_nothing_later(
    settings: Settings, connection: Connection, direct_url: str
) -> None:
    other = await asyncpg.connect(direct_url)
    try:
        await other.execute("BEGIN; LOCK TABLE rowlock.worker IN EXCLUSIVE MODE")
        async with Rowlock(settings=settings) as app:
            worker = app.worker()
            running = asyncio.create_task(worker.run(handle_signals=False))
            await eventually(lambda: connection.fetchval(WAITING, 1))
            worker.stop()
            await asyncio.wait_for(running, 20)
        await other.execute("ROLLBACK")
        await nothing_lives(connection)
    finally:
        other.terminate()


async def test_a_start_that_fails_after_its_registration_leaves_no_live_row(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Orders, control: object) -> None:
        raise ConnectionResetError

    monkeypatch.setattr(Orders, "read", fail)
    async with Rowlock(settings=settings) as app:
        for start in (app.worker().run(handle_signals=False), app.worker().drain(), app.worker().__aenter__()):
            with pytest.raises(DatabaseUnavailable):
                await start
        await nothing_lives(connection)


async def test_a_stop_while_the_schema_is_checked_holds(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Rowlock(settings=settings) as app:
        worker = app.worker()
        check = app.database.check_schema

        async def check_and_stop() -> None:
            await check()
            worker.stop()

        monkeypatch.setattr(app.database, "check_schema", check_and_stop)
        await asyncio.wait_for(worker.run(handle_signals=False), 20)
        assert worker.is_stopping


async def test_a_grace_period_of_zero_is_that_of_one_run(settings: Settings) -> None:
    begun, goes_on = asyncio.Event(), asyncio.Event()
    async with Rowlock(settings=settings) as app:

        @app.task
        async def hold() -> str:
            begun.set()
            await goes_on.wait()
            return "done"

        worker = app.worker()
        async with worker:
            worker.stop(grace=0)
        async with worker:
            job = await hold.enqueue()
            await begun.wait()
            worker.stop()
            await asyncio.sleep(0.2)
            goes_on.set()
        assert (await job.get()).state == "succeeded"


@pytest.mark.parametrize("start", ["run", "drain", "__aenter__"])
async def test_a_cancel_when_the_first_shift_has_just_opened_closes_it(
    settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    open_it = Shift.open

    async def open_and_cancel(self: Shift, *given: Any, **named: Any) -> None:  # noqa: ANN401
        await open_it(self, *given, **named)
        asyncio.get_running_loop().call_soon(starting.cancel)

    monkeypatch.setattr(Shift, "open", open_and_cancel)
    async with Rowlock(settings=settings) as app:
        worker = app.worker()
        call = {"run": lambda: worker.run(handle_signals=False), "drain": worker.drain, "__aenter__": worker.__aenter__}
        starting: asyncio.Task[object] = asyncio.create_task(call[start]())
        with pytest.raises(asyncio.CancelledError):
            await starting
        await nothing_lives(connection)


@pytest.mark.parametrize("released", ["after the drain of the next shift", "during its last step"])
async def test_a_drain_runs_what_a_retiring_shift_releases(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch, released: str
) -> None:
    runs, cleans, cleaned = [], asyncio.Event(), asyncio.Event()

    @brief.task
    async def slow(job: Job) -> None:
        runs.append(job.attempt)
        if len(runs) == 1:
            monkeypatch.setattr(Lease, "_renew", cut_off)
            try:
                await asyncio.Event().wait()
            finally:
                cleans.set()
                await cleaned.wait()

    renew = Lease._renew

    async def cut_off(self: Lease, *given: object) -> bool:
        if self.worker == first:
            raise ConnectionResetError
        return await renew(self, *given)  # type: ignore[arg-type]

    end_overdue = Duties.end_overdue

    async def end_overdue_late(self: Duties) -> None:
        cleaned.set()
        await eventually(lambda: not worker._worked.retiring)
        await end_overdue(self)

    await slow.enqueue()
    worker = brief.worker()
    draining = asyncio.create_task(worker.drain())
    await eventually(lambda: worker.is_leased)
    first = worker.id
    await cleans.wait()
    if released == "during its last step":
        monkeypatch.setattr(Duties, "end_overdue", end_overdue_late)
    else:
        await eventually(lambda: worker.id != first)
        cleaned.set()
    await asyncio.wait_for(draining, 20)
    assert len(runs) == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


async def test_jobs_that_only_a_followed_lease_would_take_have_no_worker(
    brief: Rowlock, connection: Connection
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at, followed_by) "
        "VALUES ($1, 'here', 1, '1', '{default}', '{noop}', 1, now() + interval '1 minute', $1)",
        uuid7(),
    )
    await connection.execute("SELECT rowlock.enqueue('noop')")
    assert [one.why for one in await brief.unclaimed()] == ["no_worker"]
    assert [queue.workers for queue in await brief.queues.list()] == [0]
    assert (await brief.overview()).workers == 0


@pytest.mark.parametrize("how", ["a stop", "a cancel", "the end of the block"])
async def test_a_stop_does_not_wait_for_a_shift_that_cannot_open(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    is_opening = asyncio.Event()

    async def open_for_ever(self: Shift, *given: object, **named: object) -> None:
        is_opening.set()
        await asyncio.Event().wait()

    async def lose_the_lease(worker: Worker) -> None:
        monkeypatch.setattr(Shift, "open", open_for_ever)
        await connection.execute(RUN_OUT, worker.id)
        await is_opening.wait()

    worker = brief.worker()
    async with asyncio.timeout(20):
        if how == "the end of the block":
            async with worker:
                await lose_the_lease(worker)
            return
        running = asyncio.create_task(worker.run(handle_signals=False))
        await eventually(lambda: worker.is_leased)
        await lose_the_lease(worker)
        if how == "a stop":
            worker.stop(grace=0)
            await running
        else:
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
    assert not worker.is_leased


async def test_a_defect_that_ends_the_recording_of_a_lost_lease_is_reported(
    brief: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()

    @brief.task
    async def stubborn(job: Job) -> None:
        began.set()
        while not goes_on.is_set():
            try:
                await goes_on.wait()
            except asyncio.CancelledError:
                continue

    send: Callable[..., Awaitable[None]] = Finishes._send

    async with brief.worker() as worker:
        before = worker.id
        await stubborn.enqueue()
        await began.wait()

        async def break_down(self: Finishes, *given: object, **named: object) -> None:
            if self._worker == before:
                raise ZeroDivisionError
            await send(self, *given, **named)

        with capture_logs() as logs:
            await connection.execute(RUN_OUT, before)
            await eventually(lambda: worker.id != before)
            monkeypatch.setattr(Finishes, "_send", break_down)
            goes_on.set()
            await eventually(lambda: [entry for entry in logs if entry["event"] == "worker_failed"])
