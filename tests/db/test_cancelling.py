"""Cancelling what runs: coroutines, plain functions, jobs that wait inside a worker; and against the claim."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import threading
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Cancel, Job, JobAlreadyFinished, JobFilter, LockTimeout, Rowlock, Settings, Snooze
from rowlock.queue.claim.cursors import BEGINNING
from rowlock.queue.connect.sessions import PLANNER_SETTINGS
from rowlock.queue.connect.statements import statement
from rowlock.queue.enqueue.task import Task
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import LIVE
from rowlock.queue.read.reader import list_attempts
from tests.db.claimants import register
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = replace(Settings(database_url=database_url), poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:
        yield app


async def ended(app: Rowlock, job: UUID) -> Job:
    """The job, once it has ended."""
    await eventually(lambda: _is_finished(app, job))
    return await app.get(job)


async def _is_finished(app: Rowlock, job: UUID) -> bool:
    return (await app.get(job)).is_finished


@pytest.mark.needs_session("it waits for a notification")
async def test_a_running_coroutine_is_cancelled_as_soon_as_its_worker_hears_of_it(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 60)  # what comes in time came by notification
    began, cleaned_up = asyncio.Event(), asyncio.Event()

    @app.task
    async def sleep() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cleaned_up.set()

    async with app.worker():
        job = await sleep.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        assert await app.jobs.cancel(job.id, reason="no more", by="ada") == "requested"
        done = await ended(app, job.id)
    assert cleaned_up.is_set()
    assert (done.state, done.error, done.attempt, done.errors) == ("cancelled", "Cancelled: no more", 1, 0)
    (attempt,) = await list_attempts(app.database, job.id)
    assert (attempt["outcome"], attempt["error_type"], attempt["message"]) == ("cancelled", "Cancelled", "no more")
    (told,) = await app.operations()
    assert told.details == {"answer": "requested", "reason": "no more"}


async def test_a_lost_notification_costs_one_look(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rowlock.worker.shift.Shift._hear", lambda _shift, _told: None)
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.05)
    began = asyncio.Event()

    @app.task
    async def sleep() -> None:
        began.set()
        await asyncio.Event().wait()

    async with app.worker():
        job = await sleep.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        await app.jobs.cancel(job.id)
        assert (await ended(app, job.id)).error == "Cancelled: on request"


async def test_what_a_handler_returns_after_the_request_stands(app: Rowlock) -> None:
    began = asyncio.Event()

    @app.task
    async def stubborn() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done all the same"
        return "never"

    async with app.worker():
        job = await stubborn.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        await app.jobs.cancel(job.id)
        assert await job.result(timeout=10) == "done all the same"


@pytest.mark.parametrize("how", ["error", "snooze"])
async def test_what_a_handler_raises_after_the_request_ends_the_job_as_cancelled(how: str, app: Rowlock) -> None:
    began = asyncio.Event()

    @app.task
    async def failing() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("in the clean-up") if how == "error" else Snooze(0)

    async with app.worker():
        job = await failing.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        await app.jobs.cancel(job.id, reason="no more")
        done = await ended(app, job.id)
    assert (done.state, done.error, done.errors) == ("cancelled", "Cancelled: no more", 0)
    (attempt,) = await list_attempts(app.database, job.id)
    assert (attempt["outcome"], attempt["error_type"]) == ("cancelled", "Cancelled")
    assert ("ValueError: in the clean-up" in attempt["traceback"]) is (how == "error")


async def test_a_plain_function_asks_whether_it_is_cancelled(app: Rowlock) -> None:
    began = threading.Event()

    @app.task
    def count(job: Job) -> None:
        began.set()
        while not job.is_cancelled:
            pass
        raise Cancel("stopped half-way")

    async with app.worker():
        job = await count.enqueue()
        await eventually(began.is_set)
        assert await app.jobs.cancel(job.id) == "requested"
        done = await ended(app, job.id)
    assert (done.state, done.error) == ("cancelled", "Cancel: stopped half-way")


async def test_a_plain_function_that_does_not_ask_runs_to_its_end_before_its_job_ends(app: Rowlock) -> None:
    began, go_on = threading.Event(), threading.Event()

    @app.task
    def deaf(how: str) -> str:
        began.set()
        go_on.wait(10)
        if how == "raise":
            raise ValueError(how)
        return how

    async with app.worker() as worker:
        jobs = {how: await deaf.enqueue(how) for how in ("return", "raise")}
        await eventually(lambda: len(worker._shift.slots.running) == 2)
        await eventually(began.is_set)
        for job in jobs.values():
            await app.jobs.cancel(job.id)
        await eventually(lambda: all(attempt.stop == "cancel" for attempt in worker._shift.slots.running))
        assert {(await job.get()).state for job in jobs.values()} == {"running"}, "it does run"
        go_on.set()
        assert (await ended(app, jobs["raise"].id)).state == "cancelled"
        assert (await ended(app, jobs["return"].id)).state == "succeeded"


@pytest.mark.parametrize("batch", [None, 2])
async def test_a_cancel_asked_for_in_the_plain_part_of_a_wrapped_coroutine_stops_the_rest(
    batch: int | None, app: Rowlock
) -> None:
    in_plain_part, go_on = threading.Event(), threading.Event()
    ended_by: list[str] = []

    async def rest() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended_by.append("cancel")
            raise

    def wrapped(numbers: list[int]) -> Awaitable[None]:
        in_plain_part.set()
        go_on.wait(10)
        return rest()

    task: Task[..., Any] = app.task(batch=2)(wrapped) if batch else app.task(wrapped)
    async with app.worker() as worker:
        job = await task.enqueue(1 if batch else [1])
        await eventually(in_plain_part.is_set)
        await app.jobs.cancel(job.id)
        await eventually(lambda: {attempt.stop for attempt in worker._shift.slots.running} == {"cancel"})
        go_on.set()
        assert (await ended(app, job.id)).state == "cancelled"
    assert ended_by == ["cancel"]


async def test_a_plain_function_that_waits_for_a_thread_never_begins(app: Rowlock) -> None:
    began, go_on = list[int](), threading.Event()

    @app.task
    def work(n: int) -> None:
        began.append(n)

    async with app.worker(threads=1, concurrency=2) as worker:
        worker._shift.performer._threads.submit(go_on.wait, 10)
        job = await work.enqueue(1)
        await eventually(lambda: len(worker._shift.slots.running) == 1)
        await app.jobs.cancel(job.id)
        assert (await ended(app, job.id)).state == "cancelled"
        go_on.set()
    assert began == []


async def test_a_claimed_job_that_waits_in_its_worker_ends_without_starting(app: Rowlock) -> None:
    began, go_on = list[int](), asyncio.Event()

    @app.task
    async def work(n: int) -> None:
        began.append(n)
        await go_on.wait()

    async with app.worker(concurrency=1) as worker:
        pace = worker._shift.slots._pace
        pace._at, pace.ahead = math.inf, 10  # and it stays so
        jobs = [await work.enqueue(n) for n in range(3)]
        await eventually(lambda: len(worker._shift.slots.known()) == 3)
        assert await app.jobs.cancel(jobs[2].id, reason="no more") == "requested"
        done = await ended(app, jobs[2].id)
        assert (done.state, done.error) == ("cancelled", "Cancelled: no more")
        go_on.set()
        await ended(app, jobs[1].id)
    assert began == [0, 1]


async def test_a_job_whose_cancel_was_requested_does_not_run_again(app: Rowlock, connection: Connection) -> None:
    """Its worker stops, or dies, before it could cancel it: whatever puts it back, it ends as cancelled."""

    @app.task(backoff=0)
    async def work() -> str:
        return "it ran"

    worker = UUID(int=1)
    put_back = ("again", "rescue")
    jobs = {how: (await work.enqueue()).id for how in put_back}
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $1, attempt = 1, started_at = now()", worker
    )
    for job in jobs.values():
        assert await app.jobs.cancel(job, reason="no more") == "requested"
        assert await app.jobs.cancel(job, reason="still") == "requested", "asking again changes nothing"
    again = ([jobs["again"]], [1], [0.1], [timedelta(0)], ["released"], [False], [None], [None], [None])
    await connection.fetch(statement("again", "rowlock"), worker, *again)
    async with app.worker():
        for job in jobs.values():
            done = await ended(app, job)
            assert (done.state, done.error, done.attempt) == ("cancelled", "Cancelled: no more", 1)


async def test_a_shutdown_does_not_give_back_what_was_cancelled(app: Rowlock) -> None:
    began = asyncio.Event()

    @app.task
    async def slow_to_end() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()  # until the shutdown cancels it once more

    async with app.worker() as worker:
        job = await slow_to_end.enqueue()
        await asyncio.wait_for(began.wait(), 10)
        await app.jobs.cancel(job.id)
        await eventually(lambda: all(attempt.stop == "cancel" for attempt in worker._shift.slots.running))
        worker.stop(0)
    assert (await job.get()).state == "cancelled"


async def test_many_running_and_waiting_jobs_are_cancelled_at_once(app: Rowlock) -> None:
    running = asyncio.Semaphore(0)

    @app.task
    async def sleep() -> None:
        running.release()
        await asyncio.Event().wait()

    async with app.worker(concurrency=3):
        jobs = [await sleep.enqueue() for _ in range(8)]
        for _ in range(3):
            await asyncio.wait_for(running.acquire(), 10)
        waiting = await app.jobs.cancel_many(JobFilter(task="sleep", state="queued"))
        assert (waiting.count, waiting.requested) == (5, 0)
        done = await app.jobs.cancel_many(JobFilter(task="sleep"))
        assert (done.count, done.requested) == (3, 3)
        for job in jobs:
            assert (await ended(app, job.id)).state == "cancelled"
    assert running.locked(), "no fourth one ever started"


@pytest.mark.slow
async def test_no_handler_begins_a_job_whose_cancel_was_acknowledged_while_workers_take_ahead(app: Rowlock) -> None:
    began: set[UUID] = set()

    @app.task
    async def work(job: Job) -> None:
        began.add(job.id)
        await asyncio.sleep(0)

    dice = random.Random(7)
    answers: dict[UUID, str] = {}

    async def enqueue_and_cancel() -> None:
        for number in range(400):
            if number >= 20 and list(answers.values()).count("cancelled") >= 10:
                return  # on a busy machine it takes longer until some come in time
            job = (await work.using(priority=dice.choice([4, 5])).enqueue()).id
            await asyncio.sleep(dice.choice([0, 0, 0.002]))
            with contextlib.suppress(JobAlreadyFinished):
                answers[job] = await app.jobs.cancel(job)

    async with app.worker(concurrency=2), app.worker(concurrency=20):
        await asyncio.gather(*(enqueue_and_cancel() for _ in range(8)))
        for job in answers:
            await ended(app, job)
    cancelled = {job for job, answer in answers.items() if answer == "cancelled"}
    assert cancelled, "some were cancelled in time"
    assert not cancelled & began
    assert {(await app.get(job)).state for job in cancelled} == {"cancelled"}


class Race:
    """Claimers and cancellers over the same jobs, in transactions that commit or roll back as the dice fall."""

    def __init__(self, url: str, seed: int, jobs: list[UUID]) -> None:
        self.url = url
        self.random = random.Random(seed)
        self.jobs = jobs
        self.starts: dict[UUID, list[int]] = {job: [] for job in jobs}
        self.cancelled: dict[UUID, int] = {}
        self.requested: set[UUID] = set()
        self.succeeded: set[UUID] = set()
        self.is_over = False

    async def claim(self, number: int) -> None:
        """Claim, and finish or put back; until nothing is left to claim."""
        worker = UUID(int=number)
        connection = await asyncpg.connect(self.url, server_settings=PLANNER_SETTINGS)
        await register(connection, worker)
        try:
            while not self.is_over:
                if not await self._claim_once(connection, worker):
                    await asyncio.sleep(0)
        finally:
            await connection.close()

    async def _claim_once(self, connection: Connection, worker: UUID) -> bool:
        transaction = connection.transaction()
        await transaction.start()
        rows = (await connection.fetch(statement("claim", "rowlock"), *_claim(worker)))[:-1]
        await self._dither()
        if self.random.random() < 0.3:
            await transaction.rollback()
            return True
        await transaction.commit()
        for row in rows:
            self.starts[row["id"]].append(row["attempt"])
        for row in rows:
            await self._dither()
            if self.random.random() < 0.4:
                told = ([row["id"]], [row["attempt"]], [0.0], [timedelta(0)], ["released"], [False], *[[None]] * 3)
                assert not await connection.fetch(statement("again", "rowlock"), worker, *told)
            else:
                told = ([row["id"]], [row["attempt"]], ["null"], [0.0])
                assert not await connection.fetch(statement("succeed", "rowlock"), worker, *told), "it was running"
                self.succeeded.add(row["id"])
        return bool(rows)

    async def cancel(self) -> None:
        """Cancel jobs one after the other, each until it is acknowledged, or is gone."""
        connection = await asyncpg.connect(self.url)
        live = sorted(str(state) for state in LIVE)
        try:
            while mine := [job for job in self.jobs if job not in self.cancelled | dict.fromkeys(self.succeeded)]:
                job = self.random.choice(mine)
                if self.random.random() < 0.1:
                    await connection.fetch(statement("end_overdue", "rowlock"), 100)
                transaction = connection.transaction()
                await transaction.start()
                rows = await connection.fetch(statement("cancel", "rowlock"), [job], None, None, live)
                await self._dither()
                if self.random.random() < 0.3:
                    await transaction.rollback()
                    continue
                await transaction.commit()
                if not rows:
                    if job in self.requested:  # it has ended, one way or another
                        self.jobs = [other for other in self.jobs if other != job]
                elif rows[0]["answer"] == "cancelled":
                    assert job not in self.cancelled, "it was acknowledged twice"
                    self.cancelled[job] = len(self.starts[job])
                else:
                    self.requested.add(job)
        finally:
            await connection.close()

    async def _dither(self) -> None:
        if self.random.random() < 0.5:
            await asyncio.sleep(self.random.uniform(0, 0.003))


def _claim(worker: UUID) -> tuple[object, ...]:
    start = [BEGINNING.run_at], [BEGINNING.id]
    holding: tuple[object, ...] = random.getrandbits(62), [], False, False
    return ["default"], [5], *start, ["default"], [3], 3, ["noop"], worker, False, 2, *holding


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_job_whose_cancel_was_acknowledged_never_starts(
    seed: int, direct_url: str, connection: Connection
) -> None:
    jobs = [uuid7() for _ in range(120)]
    await connection.executemany("INSERT INTO rowlock.job (id, task) VALUES ($1, 'noop')", [(job,) for job in jobs])
    race = Race(direct_url, seed, jobs)
    claimers = [asyncio.create_task(race.claim(number)) for number in range(1, 6)]
    async with asyncio.timeout(30):
        await asyncio.gather(*(race.cancel() for _ in range(5)))
    race.is_over = True
    await asyncio.gather(*claimers)
    await connection.fetch(statement("end_overdue", "rowlock"), 1000)

    assert len(race.cancelled) > 10, "some were cancelled while they waited"
    assert race.requested, "some while they ran"
    assert race.succeeded, "and some got through"
    rows = {row["id"]: row for row in await connection.fetch("SELECT id, state, attempt FROM rowlock.finished_job")}
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") == 120, "each ended once"
    for job in jobs:
        assert rows[job]["attempt"] == len(race.starts[job])
        assert (rows[job]["state"] == "succeeded") is (job in race.succeeded)
        if job in race.cancelled:
            assert rows[job]["state"] == "cancelled"
            assert len(race.starts[job]) == race.cancelled[job], "it started after its cancel was acknowledged"


async def test_a_job_that_was_cancelled_before_its_worker_knew_of_it_ends_as_cancelled(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts: list[UUID] = []
    asked: list[UUID] = []

    @app.task(deadline=60)
    async def note(job: Job) -> None:
        starts.append(job.id)

    async with app.worker() as worker:
        fetch = worker._shift.links.claim.fetch

        async def lose_the_answer(name: str, *parameters: object) -> list[asyncpg.Record]:
            rows = await fetch(name, *parameters)
            if name == "claim" and len(rows) > 1 and not asked:
                asked.append(rows[0]["id"])
                assert await app.jobs.cancel(rows[0]["id"]) == "requested"
                raise ConnectionResetError("the answer was lost")
            return rows

        monkeypatch.setattr(worker._shift.links.claim, "fetch", lose_the_answer)
        handle = await note.enqueue()
        job = await ended(app, handle.id)
    assert (job.state, job.errors, starts, asked) == ("cancelled", 0, [], [handle.id])
    outcomes = await connection.fetch("SELECT outcome FROM rowlock.attempt")
    assert [row["outcome"] for row in outcomes] in ([], ["released"], ["cancelled"])


async def test_a_lock_on_another_table_than_the_job_s_is_told_as_that(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.operate.act.ACT_LOCK_WAIT", "50ms")

    @app.task
    async def work() -> None: ...

    job = await work.using(delay=60).enqueue()
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.waiter")
        with pytest.raises(LockTimeout, match="locks the job to change, or a table of Rowlock,"):
            await app.jobs.cancel(job.id)
    assert (await job.get()).state == "scheduled"
