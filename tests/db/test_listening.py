"""Connections that answer and hear nothing: they are found, and exchanged, and nothing waits for that."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.queue.connect.listening import Ear
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.loop.doze import Doze
from rowlock.worker.loop.main_loop import MainLoop
from rowlock.worker.worker import Worker
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
    Logs: TypeAlias = list[MutableMapping[str, Any]]


pytestmark = pytest.mark.needs_session("it is about hearing notifications")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 0.05)


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=Settings(database_url=database_url, poll_interval=timedelta(seconds=30))) as opened:
        yield opened


async def channels(control: ControlConnection) -> list[str]:
    """What the control connection's session listens to at this moment."""
    async with control._lock:
        opened = control._connection
        return [] if opened is None else [row[0] for row in await opened.fetch("SELECT pg_listening_channels()")]


async def deafen(control: ControlConnection) -> None:
    async with control._lock:
        assert control._connection is not None
        await control._connection.execute("UNLISTEN *")


def is_told(logs: Logs) -> bool:
    return any(entry["event"] == "listen_is_deaf" for entry in logs)


async def is_idle(connection: Connection) -> bool:
    marked: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.idle_worker)")
    return marked


@pytest.mark.usefixtures("often")
async def test_a_worker_that_hears_nothing_connects_anew_and_its_lease_and_jobs_stay(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work(job: Job) -> int:
        return job.crashes

    async with app.worker() as worker:
        first = worker.id
        await eventually(lambda: is_idle(connection))
        assert await channels(worker._shift.links.claim) == ["rowlock.wakeup"]
        with capture_logs() as logs:
            await deafen(worker._shift.links.claim)
            assert await channels(worker._shift.links.claim) == []
            await eventually(lambda: is_told(logs))

            async def listens() -> bool:
                return await channels(worker._shift.links.claim) == ["rowlock.wakeup"]

            await eventually(listens)
        assert await (await work.enqueue()).result(timeout=10) == 0
        assert worker.id == first


async def test_an_idle_worker_whose_connection_ends_makes_another_one_at_once(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 3600)  # which would find it, too
    async with app.worker() as worker:
        await eventually(lambda: is_idle(connection))
        before = worker._shift.links.claim._connection
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowlock claim'"
        )

        async def listens() -> bool:
            control = worker._shift.links.claim
            return control._connection not in (None, before) and await channels(control) == ["rowlock.wakeup"]

        await eventually(listens)


async def test_a_job_that_is_enqueued_while_its_worker_hears_nothing_waits_for_a_look_at_most(
    database_url: str, connection: Connection
) -> None:
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> str:
            return "done"

        async with app.worker() as worker:
            await eventually(lambda: is_idle(connection))
            await deafen(worker._shift.links.claim)
            assert await (await work.enqueue()).result(timeout=3) == "done"
            assert await channels(worker._shift.links.claim) == [], "not yet found"


async def test_a_job_of_a_transaction_that_was_open_when_the_worker_fell_asleep_waits_for_a_poll_at_most(
    database_url: str, direct_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its enqueue saw no sleeping worker, so it notifies nobody."""
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 3600)
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=2))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> str:
            return "done"

        enqueuing = await asyncpg.connect(direct_url)
        try:
            async with enqueuing.transaction():
                handle = await work.using(connection=enqueuing).enqueue()
                async with app.worker() as worker:
                    await eventually(lambda: is_idle(connection))
                    await asyncio.sleep(2)
                    assert not worker._shift.doze._hears_all
                    await enqueuing.execute("COMMIT")
                    assert await handle.result(timeout=10) == "done"  # and not after ten polls
                    await eventually(lambda: worker._shift.doze._hears_all)
                    await enqueuing.execute("BEGIN")
        finally:
            enqueuing.terminate()


@pytest.mark.parametrize("which", ["of a full queue", "of a busy executor"])
async def test_a_due_job_that_has_no_room_keeps_no_worker_awake(
    which: str, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[None] = []
    work_once = MainLoop._work_once

    async def counted(loop: MainLoop) -> None:
        turns.append(None)
        await work_once(loop)

    monkeypatch.setattr(MainLoop, "_work_once", counted)
    goes_on = threading.Event()

    @app.task(queue="small")
    async def limited() -> None:
        await asyncio.to_thread(goes_on.wait)

    @app.task
    def busy() -> None:
        goes_on.wait()

    task = limited if which == "of a full queue" else busy
    async with app.worker(queues=["small:1", "default"], threads=1) as worker:
        await eventually(lambda: is_idle(connection))
        for _ in range(2):
            await task.using(delay=0.2).enqueue()
        await eventually(lambda: worker._shift.slots.in_use == 1)
        await asyncio.sleep(0.3)  # the second one is due
        turns.clear()
        await asyncio.sleep(0.5)
        assert len(turns) < 20
        goes_on.set()
        await eventually(lambda: worker._shift.slots.done == 2)


@pytest.mark.usefixtures("often")
async def test_a_blocked_event_loop_is_not_taken_for_a_deaf_connection(app: Rowlock, connection: Connection) -> None:
    async with app.worker() as worker:
        await eventually(lambda: is_idle(connection))
        tests = count_tests(worker)
        with capture_logs() as logs:
            for _ in range(3):
                time.sleep(0.2)  # noqa: ASYNC251  # that is the test
                before = len(tests)
                await eventually(lambda before=before: len(tests) > before)  # type: ignore[misc]
        assert not is_told(logs)


def count_tests(worker: Worker) -> list[str]:
    """The tests from now on."""
    tests: list[str] = []
    fetch = worker._shift.links.claim.fetch

    async def counted(name: str, *parameters: object) -> list[asyncpg.Record]:
        if name == "test_listening":
            tests.append(name)
        return await fetch(name, *parameters)

    worker._shift.links.claim.fetch = counted  # type: ignore[method-assign]
    return tests


async def test_where_something_is_heard_anyway_there_is_no_test(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: Any = None
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 0)
    ear = Ear(nothing, "rowlock", "rowlock.wakeup", uuid7())
    assert ear.due_in() == 0
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 10)
    ear.heard()
    assert 7 < ear.due_in() <= 12
    assert await ear.test()


async def test_a_worker_that_is_not_marked_as_idle_sends_no_notification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 0)
    said: list[str] = []

    class Recorded:
        queues = open_queues = ("default",)
        has_looked_behind = True
        xmin = xmax = 0

        async def fetch(self, name: str, *parameters: object) -> list[Any]:  # noqa: ARG002  # as the real one
            said.append(name)
            return []

        async def discard(self) -> None: ...

        def next_due_in(self) -> float:
            return 0.001

    recorded: Any = Recorded()
    doze = Doze(Settings(poll_interval=timedelta(milliseconds=1)), recorded, recorded, uuid7())
    doze._per_second = 1000
    await doze.wait()
    assert said == []
    doze._dry_since -= 1
    await doze.wait()
    await doze.wait()
    assert said == ["mark_idle", "test_listening"]
    await doze.busy()
    doze._dry_since += 10
    await doze.wait()
    assert said == ["mark_idle", "test_listening", "mark_busy"]


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("how", ["deaf", "terminated"])
async def test_those_who_wait_for_results_hear_again(
    how: str, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.read.handle._NET_FIRST", 60)  # nobody looks by himself
    monkeypatch.setattr("rowlock.queue.read.handle._NET_MOST", 60)
    goes_on = asyncio.Event()

    @app.task
    async def work() -> str:
        await goes_on.wait()
        return "done"

    async def is_waited_for() -> bool:
        waited: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.waiter)")
        return waited

    handle = await work.enqueue()
    waiting = asyncio.create_task(handle.result(timeout=30))
    async with app.worker():
        await eventually(is_waited_for)
        waits = (await app.database._of_this_loop()).waits
        assert waits is not None
        control = waits._connection
        assert await channels(control) == ["rowlock.finished"]
        with capture_logs() as logs:
            if how == "deaf":
                await deafen(control)
                await eventually(lambda: is_told(logs))
            else:
                before = control._connection
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'rowlock results'"
                )
                await eventually(lambda: control._connection not in (None, before))
            goes_on.set()
            async with asyncio.timeout(10):
                assert await waiting == "done"


async def test_what_a_stopping_worker_gives_back_wakes_another_one(app: Rowlock, connection: Connection) -> None:
    runs: list[int] = []

    @app.task
    async def work(job: Job) -> None:
        runs.append(job.attempt)
        if job.attempt == 1:
            await asyncio.sleep(60)

    first, second = app.worker(), app.worker()
    handle = await work.enqueue()
    running = asyncio.create_task(first.run(handle_signals=False))
    await eventually(lambda: runs == [1])
    async with second:
        sleeping = "SELECT count(*) = 1 FROM rowlock.idle_worker WHERE worker = $1"
        await eventually(lambda: connection.fetchval(sleeping, second.id))
        second._shift.doze._ear.begin()
        first.stop(grace=0)
        await handle.result(timeout=2.5)  # it would look again after 3.2 s at the earliest, to test its hearing
    await running
    assert runs == [1, 2]
