"""The shift after a lost lease: it takes over operators' orders, and a stop does not wait until it is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings, WorkerNotFound
from rowlock.queue.finish.finishes import Finishes
from rowlock.worker.attention import Attention
from rowlock.worker.shift import Shift
from rowlock.worker.vitals.lease import Lease
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock import Worker

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

RUN_OUT = "UPDATE rowlock.worker SET expires_at = clock_timestamp() WHERE id = $1"
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
