"""A job that waits in its worker for a thread, a process, its batch or its middleware has not begun, and may never."""

from __future__ import annotations

import asyncio
import threading
from abc import abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import asyncpg
import pytest

from rowlock import CallNext, Job, JobFailed, JobHandle, Rowlock, Settings, steady
from rowlock.queue.enqueue.task import Task
from rowlock.worker.executors.processes import Process, Processes
from tests import process_tasks
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock.worker.worker import Worker

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

FEW: dict[str, Any] = {"concurrency": 10, "threads": 1, "task_processes": 1}
"""What a worker is opened with."""


@pytest.fixture
async def app(database_url: str, monkeypatch: pytest.MonkeyPatch, connection: Connection) -> AsyncIterator[Rowlock]:
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.02)
    await connection.execute("UPDATE rowlock.duty SET every = '20 ms' WHERE name = 'overdue'")
    settings = Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as opened:
        yield opened


class Wait:
    """A task whose attempts wait inside until they are told to go on."""

    @abstractmethod
    async def enqueue(self, *, expires: float | None = None, deadline: float | None = None) -> JobHandle[Any]:
        """Enqueue a job of the task."""

    def hold(self, worker: Worker) -> None:
        """Have the attempts of this worker wait."""

    @abstractmethod
    def go_on(self) -> None:
        """Wait no longer."""

    @abstractmethod
    def began(self) -> int:
        """How many handlers were called."""


class ForThread(Wait):
    def __init__(self, app: Rowlock) -> None:
        self.is_free = threading.Event()
        calls = self.calls = list[int]()

        @app.task(max_attempts=1, max_crashes=1)
        def work(job: Job) -> int:
            calls.append(job.attempt)
            return job.attempt

        self.task = work

    async def enqueue(self, *, expires: float | None = None, deadline: float | None = None) -> JobHandle[Any]:
        return await self.task.using(expires=expires, deadline=deadline).enqueue()

    def hold(self, worker: Worker) -> None:
        worker._shift.performer._threads.submit(self.is_free.wait)

    def go_on(self) -> None:
        self.is_free.set()

    def began(self) -> int:
        return len(self.calls)


class ForProcess(Wait):
    def __init__(self, app: Rowlock, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.has_started = asyncio.Event()
        self.file = file
        self.task = app.task(executor="process", max_attempts=1, max_crashes=1)(process_tasks.note)
        start = Processes._start

        async def start_late(processes: Processes) -> Process:
            await self.has_started.wait()
            return await start(processes)

        monkeypatch.setattr(Processes, "_start", start_late)

    async def enqueue(self, *, expires: float | None = None, deadline: float | None = None) -> JobHandle[Any]:
        return await self.task.using(expires=expires, deadline=deadline).enqueue(file=str(self.file), number=1)

    def go_on(self) -> None:
        self.has_started.set()

    def began(self) -> int:
        return len(self.file.read_text().split()) if self.file.exists() else 0


class ForBatch(Wait):
    def __init__(self, app: Rowlock) -> None:
        calls = self.calls = list[list[int]]()

        @app.task(batch=5, batch_wait=60, max_attempts=1, max_crashes=1)
        async def work(jobs: list[Job], numbers: list[int]) -> list[int]:
            calls.append(numbers)
            return [job.attempt for job in jobs]

        self.task = work

    async def enqueue(self, *, expires: float | None = None, deadline: float | None = None) -> JobHandle[Any]:
        return await self.task.using(expires=expires, deadline=deadline).enqueue(1)

    def hold(self, worker: Worker) -> None:
        self.worker = worker

    def go_on(self) -> None:
        """Begin, in this shift or the next; what comes is not held any more."""
        assert self.task.batch is not None
        gathering = self.worker._shift.performer._gatherings["work"]
        self.task.batch = gathering._batch = replace(self.task.batch, wait=timedelta(0))
        gathering._begin()

    def began(self) -> int:
        return len(self.calls)


class InMiddleware(Wait):
    def __init__(self, app: Rowlock) -> None:
        self.may_go_on = asyncio.Event()
        calls = self.calls = list[int]()

        @app.middleware
        async def wait(job: Job, call_next: CallNext) -> object:
            await self.may_go_on.wait()
            try:
                return await call_next()
            except BaseException:
                if job.task == "swallowed":
                    return None
                raise

        @app.task(name="swallowed", max_attempts=1, max_crashes=1)
        async def work(job: Job) -> int:
            calls.append(job.attempt)
            return job.attempt

        self.task = work

    async def enqueue(self, *, expires: float | None = None, deadline: float | None = None) -> JobHandle[Any]:
        return await self.task.using(expires=expires, deadline=deadline).enqueue()

    def go_on(self) -> None:
        self.may_go_on.set()

    def began(self) -> int:
        return len(self.calls)


@pytest.fixture(params=["thread", "process", "batch", "middleware"])
def wait(
    request: pytest.FixtureRequest, app: Rowlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Wait]:
    match request.param:
        case "thread":
            made = ForThread(app)
            with ExitStack() as at_last:
                at_last.callback(made.is_free.set)
                yield made
        case "process":
            yield ForProcess(app, tmp_path / "began", monkeypatch)
        case "batch":
            yield ForBatch(app)
        case _:
            yield InMiddleware(app)


async def is_inside(worker: Worker) -> None:
    await eventually(lambda: any(attempt.lease for attempt in worker._shift.slots.running))


@pytest.mark.parametrize("option, state", [("expires", "expired"), ("deadline", "failed")])
async def test_what_waits_inside_does_not_begin_once_its_time_is_over(
    option: str, state: str, wait: Wait, app: Rowlock, connection: Connection
) -> None:
    async with app.worker(**FEW) as worker:
        wait.hold(worker)
        handle = await (wait.enqueue(expires=0.5) if option == "expires" else wait.enqueue(deadline=0.5))
        await is_inside(worker)

        async def is_over() -> bool:
            return bool(
                await connection.fetchval(
                    "SELECT finished_at IS NOT NULL OR coalesce(expires_at, deadline) < clock_timestamp()"
                    "  FROM rowlock.jobs WHERE id = $1",
                    handle.id,
                )
            )

        await eventually(is_over)
        wait.go_on()
        with pytest.raises(JobFailed) as failure:
            await handle.result(timeout=20)
    assert (failure.value.state, wait.began()) == (state, 0)


async def test_what_waits_inside_at_a_stop_is_given_back_as_it_was(
    wait: Wait, app: Rowlock, connection: Connection
) -> None:
    async with app.worker(**FEW) as worker:
        wait.hold(worker)
        handle = await wait.enqueue(expires=3600)
        await is_inside(worker)
        worker.stop(0)
    wait.go_on()
    row = await connection.fetchrow(
        "SELECT state, ends_at = expires_at AS expires, errors, crashes FROM rowlock.job WHERE id = $1", handle.id
    )
    assert row is not None
    assert (*row.values(), wait.began()) == ("queued", True, 0, 0, 0)


async def test_what_waits_inside_does_not_begin_once_the_lease_is_over(
    wait: Wait, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with app.worker(**FEW) as worker:
        wait.hold(worker)
        handle = await wait.enqueue()
        await is_inside(worker)
        slept = worker._shift.lease.held_until + 1  # a suspended machine; the next renewal sets it anew
        monkeypatch.setattr(steady, "seconds", lambda: slept)
        wait.go_on()
        assert await handle.result(timeout=20) == 2, "the first attempt was given back"
    assert wait.began() == 1


async def test_what_waits_inside_when_the_lease_is_lost_is_given_back_without_a_crash(
    wait: Wait, app: Rowlock, connection: Connection
) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity', set_at = now() WHERE name <> 'overdue'")
    async with app.worker(**FEW) as worker:
        wait.hold(worker)
        handle = await wait.enqueue()
        await is_inside(worker)
        shift = worker._shift
        shift.lease.stop()
        shift.lease.is_lost = True
        shift._let_go()

        async def is_back() -> bool:
            job = await handle.get()
            return job.attempt > 1 or job.state == "queued"

        await eventually(is_back)
        await eventually(lambda: worker.id != shift.id)
        wait.go_on()
        assert await handle.result(timeout=20) == 2
    job = await handle.get()
    assert (wait.began(), job.crashes, job.errors) == (1, 0, 0)


async def test_what_waits_inside_does_not_begin_in_a_paused_queue(wait: Wait, app: Rowlock) -> None:
    async with app.worker(**FEW) as worker:
        wait.hold(worker)
        handle = await wait.enqueue()
        await is_inside(worker)
        (attempt,) = worker._shift.slots.running
        await app.queues.pause("default")
        await eventually(lambda: attempt.is_refused)
        wait.go_on()

        async def is_back() -> bool:
            return (await handle.get()).state == "queued"

        await eventually(is_back)
        assert wait.began() == 0
        await app.queues.resume("default")
        assert await handle.result(timeout=20) == 2


async def test_a_batch_that_waits_for_a_thread_begins_with_those_that_still_may(app: Rowlock) -> None:
    is_free = threading.Event()
    calls: list[list[int]] = []

    @app.task(batch=3, batch_wait=60)
    def work(numbers: list[int]) -> None:
        calls.append(numbers)

    with ExitStack() as at_last:
        at_last.callback(is_free.set)
        async with app.worker(**FEW) as worker:
            worker._shift.performer._threads.submit(is_free.wait)
            handles = [await work.using(deadline=deadline).enqueue(n) for n, deadline in enumerate([3600, 0.5, 3600])]
            with pytest.raises(JobFailed):
                await handles[1].result(timeout=20)
            is_free.set()
            await handles[0].result(timeout=20)
            await handles[2].result(timeout=20)
    assert calls == [[0, 2]]


async def test_a_batch_of_which_no_job_may_begin_is_not_called(app: Rowlock) -> None:
    calls: list[list[int]] = []

    @app.task(batch=2, batch_wait=60)
    async def work(jobs: list[Job], numbers: list[int]) -> list[int]:
        calls.append(numbers)
        return [job.attempt for job in jobs]

    async with app.worker(**FEW) as worker:
        handle = await work.enqueue(1)
        await is_inside(worker)
        worker._shift.lease.held_until = 0.0
        worker._shift.performer._gatherings["work"]._begin()
        await eventually(lambda: worker._shift.lease.is_held)
        other = await work.enqueue(2)
        assert sorted([await handle.result(timeout=20), await other.result(timeout=20)]) == [1, 2]
    assert [sorted(call) for call in calls] == [[1, 2]]


class Busy:
    """Plain functions, in a thread or in a process, that go on until they are told."""

    def __init__(self, executor: Literal["thread", "process"], app: Rowlock, folder: Path) -> None:
        self.folder = folder
        self.task: Task[..., Any] = app.task(executor=executor)(process_tasks.wait_for)

    async def enqueue(self, name: str, *, priority: int = 0) -> JobHandle[Any]:
        handle: JobHandle[Any] = await self.task.using(priority=priority).enqueue(
            file=str(self.folder / name), until=self.until(name)
        )
        return handle

    def until(self, name: str) -> str:
        return str(self.folder / f"{name}.until")

    def end(self, name: str) -> None:
        Path(self.until(name)).touch()

    async def has_begun(self, name: str) -> None:
        await eventually((self.folder / name).exists)

    def begun(self) -> set[str]:
        return {path.name for path in self.folder.iterdir() if not path.name.endswith(".until")}


@pytest.fixture(params=["thread", "process"])
def busy(request: pytest.FixtureRequest, app: Rowlock, tmp_path: Path) -> Iterator[Busy]:
    made = Busy(request.param, app, tmp_path)
    yield made
    for name in "abcdefgh":
        made.end(name)


async def test_the_urgent_come_first_when_an_executor_is_free(busy: Busy, app: Rowlock) -> None:
    async with app.worker(**FEW) as worker:
        await busy.enqueue("a")
        await busy.has_begun("a")
        low = await busy.enqueue("b")
        urgent = await busy.enqueue("c", priority=9)
        assert worker._shift.slots.ahead == 0
        busy.end("a")
        await busy.has_begun("c")
        assert busy.begun() == {"a", "c"}
        busy.end("b")
        busy.end("c")
        await urgent.result(timeout=20)
        await low.result(timeout=20)


async def test_what_an_executor_has_no_room_for_is_left_to_other_workers(
    busy: Busy, app: Rowlock, connection: Connection
) -> None:
    async with app.worker(**FEW), app.worker(**FEW):
        handles = [await busy.enqueue(name) for name in "abcd"]

        async def by_worker() -> dict[Any, int]:
            rows = await connection.fetch("SELECT worker FROM rowlock.job WHERE state = 'running'")
            return Counter(row["worker"] for row in rows)

        async def are_two() -> bool:
            return len(busy.begun()) == 2

        await eventually(are_two)
        assert sorted((await by_worker()).values()) == [1, 1]
        for name in "abcd":
            busy.end(name)
        for handle in handles:
            await handle.result(timeout=20)


async def test_other_tasks_go_on_beside_those_that_wait_for_an_executor(busy: Busy, app: Rowlock) -> None:
    @app.task
    async def quick(number: int) -> int:
        return number

    async with app.worker(concurrency=2, threads=1, task_processes=1):
        waiting = [await busy.enqueue(name) for name in "abcd"]
        await busy.has_begun("a")
        for number in range(5):
            assert await (await quick.enqueue(number)).result(timeout=20) == number
        for name in "abcd":
            busy.end(name)
        for handle in waiting:
            await handle.result(timeout=20)


async def test_an_executor_that_binds_no_more_after_a_scale_is_claimed_for_with_the_rest(
    busy: Busy, app: Rowlock
) -> None:
    @app.task
    async def other() -> None: ...

    async with app.worker(**FEW) as worker:
        assert len(worker._shift.shares) == 2
        await busy.enqueue("a")
        await busy.has_begun("a")
        await app.workers.scale(worker.id, 1)
        await eventually(lambda: len(worker._shift.shares) == 1)
        await app.workers.scale(worker.id, 10)
        await eventually(lambda: len(worker._shift.shares) == 2)
        second = await busy.enqueue("b")
        busy.end("a")
        busy.end("b")
        await second.result(timeout=20)
    (executor,) = worker._shift.slots.binding
    assert (executor.in_use, executor.waiting) == (0, 0)
