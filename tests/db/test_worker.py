"""The worker: one attempt of a job runs, is retried, and ends within its limits."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest
import structlog

from rowlock import Cancel, Fail, Job, Retry, Rowlock, Settings, Snooze
from rowlock.logs import add_job
from tests.db.rows import attempts_of, row_of

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


SOON = timedelta(milliseconds=50)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=SOON)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


# One attempt.


async def test_an_async_function_runs_with_its_arguments_and_its_result_is_stored(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def add(a: int, b: int = 10) -> dict[str, int]:
        return {"sum": a + b}

    handle = await add.enqueue(1, b=2)
    assert await app.worker().drain() == 1
    row = await row_of(connection, handle.id)
    assert (row["state"], json.loads(row["result"]), row["attempt"], row["errors"]) == ("succeeded", {"sum": 3}, 1, 0)
    assert row["error"] is None
    assert row["worker"] is not None
    assert row["created_at"] <= row["started_at"] <= row["finished_at"]
    assert await attempts_of(connection, handle.id) == [], "a simple success is one row"


async def test_a_plain_function_runs_in_a_thread_and_the_loop_goes_on_turning(app: Rowlock) -> None:
    turned = threading.Event()

    @app.task
    def plain() -> str:
        assert turned.wait(10), "the loop stood still"
        return threading.current_thread().name

    @app.task
    async def turn() -> None:
        turned.set()

    handle = await plain.enqueue()
    await turn.using(priority=0).enqueue()
    await app.worker().drain()
    assert (await handle.result(timeout=5)).startswith("rowlock-task")


async def test_a_handler_that_wants_its_job_is_given_it(app: Rowlock) -> None:
    seen: list[Job] = []

    @app.task(queue="email", max_attempts=2, backoff=0)
    async def look(job: Job, word: str) -> None:
        seen.append(job)
        raise ValueError(word)

    @app.task
    def look_in_thread(job: Job, *, number: int) -> None:
        seen.append(job)

    handle = await look.using(priority=9).enqueue(word="x")
    other = await look_in_thread.enqueue(number=1)
    await app.worker().drain()
    first, second = (job for job in seen if job.id == handle.id)
    assert (first.state, first.task, first.queue, first.args, first.priority) == (
        "running",
        "look",
        "email",
        {"word": "x"},
        9,
    )
    assert (first.attempt, first.errors, first.max_attempts) == (1, 0, 2)
    assert (second.attempt, second.errors) == (2, 1)
    assert [job.args for job in seen if job.id == other.id] == [{"number": 1}]


async def test_an_error_is_retried_after_its_backoff_until_it_succeeds(app: Rowlock, connection: Connection) -> None:
    @app.task(backoff=100)
    async def flaky(job: Job) -> int:
        if job.attempt < 3:
            raise LookupError(f"attempt {job.attempt}")
        return job.attempt

    handle = await flaky.enqueue()
    for attempt, seconds in ((1, 100), (2, 200)):
        assert await app.worker().drain() == 1
        row = await row_of(connection, handle.id)
        assert (row["state"], row["attempt"], row["errors"]) == ("retrying", attempt, attempt)
        assert row["error"] == f"LookupError: attempt {attempt}"
        assert (row["worker"], row["started_at"]) == (None, None)
        wait = row["run_at"] - await connection.fetchval("SELECT clock_timestamp()")
        assert timedelta(seconds=seconds * 0.8) < wait <= timedelta(seconds=seconds)
        await connection.execute("UPDATE rowlock.job SET run_at = clock_timestamp()")
    assert await app.worker().drain() == 1
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"], row["result"]) == ("succeeded", 3, 2, "3")

    told = await attempts_of(connection, handle.id)
    assert [(row["attempt"], row["outcome"]) for row in told] == [(1, "error"), (2, "error")]
    for row in told:
        assert (row["task"], row["queue"], row["error_type"]) == ("flaky", "default", "LookupError")
        assert row["message"] == f"attempt {row['attempt']}"
        assert "in flaky" in row["traceback"]
        assert "raise LookupError(" in row["traceback"]
        assert row["worker"] is not None
        assert row["started_at"] <= row["finished_at"]


async def test_a_job_that_used_up_its_attempts_is_a_dead_letter(app: Rowlock, connection: Connection) -> None:
    runs = 0

    @app.task(max_attempts=3, backoff=0)
    async def broken() -> None:
        nonlocal runs
        runs += 1
        raise ValueError("no")

    handle = await broken.enqueue()
    once = await broken.using(max_attempts=1).enqueue()
    assert await app.worker().drain() == 4
    assert runs == 4
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"], row["error"]) == ("failed", 3, 3, "ValueError: no")
    assert [row["attempt"] for row in await attempts_of(connection, handle.id)] == [1, 2, 3]
    assert (await row_of(connection, once.id))["attempt"] == 1


@pytest.mark.parametrize("is_returned", [False, True], ids=["raised", "returned"])
async def test_a_handler_decides_what_becomes_of_its_job(
    is_returned: bool, app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def decide(verdict: str) -> object:
        verdicts: dict[str, Retry | Snooze | Cancel | Fail] = {
            "retry": Retry(60, reason="busy"),
            "snooze": Snooze(timedelta(minutes=1), reason="not yet"),
            "cancel": Cancel("nothing to do"),
            "fail": Fail("hopeless"),
        }
        if is_returned:
            return verdicts[verdict]
        raise verdicts[verdict]

    expected = {
        "retry": ("retrying", 1, "retried"),
        "snooze": ("queued", 0, "snoozed"),
        "cancel": ("cancelled", 0, "cancelled"),
        "fail": ("failed", 1, "failed"),
    }
    handles = {verdict: await decide.enqueue(verdict) for verdict in expected}
    assert await app.worker().drain() == 4
    now = await connection.fetchval("SELECT clock_timestamp()")
    for verdict, (state, errors, outcome) in expected.items():
        row = await row_of(connection, handles[verdict].id)
        assert (row["state"], row["errors"], row["attempt"]) == (state, errors, 1), verdict
        [told] = await attempts_of(connection, handles[verdict].id)
        assert (told["outcome"], told["attempt"]) == (outcome, 1)
        reason = {"retry": "busy", "snooze": "not yet", "cancel": "nothing to do", "fail": "hopeless"}[verdict]
        assert told["message"] == reason
        if verdict in {"retry", "snooze"}:
            assert timedelta(seconds=50) < row["run_at"] - now <= timedelta(seconds=60)


async def test_a_snooze_is_no_error_of_the_job(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def patient(job: Job) -> str:
        if job.attempt < 4:
            raise Snooze(0)
        return "done"

    handle = await patient.enqueue()
    await app.worker().drain()
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"], row["error"]) == ("succeeded", 4, 0, None)


async def test_a_retry_on_request_uses_up_the_attempts(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=2)
    async def again() -> None:
        raise Retry(0)

    handle = await again.enqueue()
    assert await app.worker().drain() == 2
    row = await row_of(connection, handle.id)
    assert (row["state"], row["errors"]) == ("failed", 2)


async def test_a_delay_that_no_calendar_holds_does_not_leave_the_job_running(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def far(which: str) -> None:
        raise (Retry if which == "retry" else Snooze)(timedelta.max)

    handles = [await far.enqueue("retry"), await far.enqueue("snooze")]
    await app.worker().drain()
    for handle in handles:
        row = await row_of(connection, handle.id)
        assert row["state"] == "failed"
        assert "a hundred years" in row["error"]


async def test_an_attempt_ends_at_its_timeout(app: Rowlock, connection: Connection) -> None:
    cancelled = []

    @app.task(timeout=0.05, max_attempts=1)
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(1)
            raise

    @app.task(max_attempts=1)
    async def own() -> None:
        raise TimeoutError("the handler's own")

    handles = [await slow.enqueue(), await slow.using(timeout=0.06).enqueue()]
    other = await own.using(timeout=60).enqueue()
    await app.worker().drain()
    assert len(cancelled) == 2
    for handle, seconds in zip(handles, ("0.05", "0.06"), strict=True):
        row = await row_of(connection, handle.id)
        [told] = await attempts_of(connection, handle.id)
        assert (row["state"], row["errors"], told["outcome"]) == ("failed", 1, "timeout")
        assert f"timeout of {seconds} s" in told["message"]
    assert [told["outcome"] for told in await attempts_of(connection, other.id)] == ["error"]


async def test_a_plain_function_past_its_timeout_has_timed_out_once_it_returns_and_never_runs_twice_at_once(
    app: Rowlock, connection: Connection
) -> None:
    running: list[int] = []
    overlaps: list[int] = []

    @app.task(timeout=0.3, backoff=0)
    def slow(job: Job) -> str:
        overlaps.extend(running)
        running.append(job.attempt)
        if job.attempt == 1:
            time.sleep(0.4)
        running.remove(job.attempt)
        return "in time"

    handle = await slow.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=5) == "in time"
    assert [row["outcome"] for row in await attempts_of(connection, handle.id)] == ["timeout"]
    assert not overlaps


async def test_the_timeout_of_a_plain_function_counts_from_when_its_thread_begins(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(timeout=0.7, max_attempts=1)
    def work() -> None:
        time.sleep(0.15)

    await app.enqueue_many([work.job() for _ in range(6)])
    await app.worker(threads=1).drain()
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs WHERE state = 'succeeded'") == 6


async def test_a_worker_whose_threads_have_ended_leaves_none_behind(app: Rowlock) -> None:
    @app.task
    def quick() -> None: ...

    await quick.enqueue()
    worker = app.worker()
    await worker.drain()
    assert not worker.has_leftover_threads


_seen_by: contextvars.ContextVar[int | None] = contextvars.ContextVar("seen_by", default=None)


# The surroundings of a handler.


async def test_what_a_job_leaves_in_context_variables_does_not_reach_the_next(app: Rowlock) -> None:
    leaked: list[int] = []

    @app.task
    async def mark(n: int) -> None:
        if (before := _seen_by.get()) is not None:
            leaked.append(before)
        _seen_by.set(n)
        structlog.contextvars.bind_contextvars(customer=n)

    @app.task
    def mark_in_thread(n: int) -> None:
        if (before := _seen_by.get()) is not None:
            leaked.append(before)
        _seen_by.set(n)

    await app.enqueue_many([mark.job(n) for n in range(300)])
    await app.enqueue_many([mark_in_thread.job(n) for n in range(300, 350)])
    assert await app.worker(concurrency=1).drain() == 350
    assert leaked == []


async def test_the_log_context_names_the_attempt(app: Rowlock) -> None:
    seen: list[Any] = []

    @app.task(queue="email")
    async def look() -> None:
        seen.append(add_job(None, "info", {"event": "looked"}))

    @app.task(queue="email")
    def look_in_thread() -> None:
        seen.append(add_job(None, "info", {"event": "looked"}))

    for task in (look, look_in_thread):
        handle, worker = await task.enqueue(), app.worker()
        await worker.drain()
        told = {"job_id": str(handle.id), "queue": "email", "task": task.name, "attempt": 1, "worker": str(worker.id)}
        assert seen.pop() == {"event": "looked", **told}
    assert add_job(None, "info", {"event": "after"}) == {"event": "after"}
