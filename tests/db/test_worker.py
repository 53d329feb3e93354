"""The worker: whatever a handler does, its job ends once, in order, within its limits, and outlives the worker."""

from __future__ import annotations

import asyncio
import contextvars
import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
import structlog

from rowlock import (
    Cancel,
    DatabaseUnavailable,
    Fail,
    InvalidOption,
    Job,
    Retry,
    Rowlock,
    RowlockError,
    SchemaNotMigrated,
    SchemaTooNew,
    Settings,
    Snooze,
)
from rowlock.logs import add_job
from rowlock.queue.jobs.lifecycle import Directive
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from rowlock.worker.worker import Worker

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Row: TypeAlias = Mapping[str, Any]
SOON = timedelta(milliseconds=50)


@pytest.fixture
def settings(database_url: str) -> Settings:
    return Settings(database_url=database_url, poll_interval=SOON)


@pytest.fixture
def unpolled(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A worker that marks itself as idle at once, and then sleeps until something wakes it: what runs did not come by
    polling."""
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 0.001}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    monkeypatch.setattr("rowlock.worker.loop.doze.BUSY_JOBS_PER_SECOND", float("inf"))
    return replace(settings, poll_interval=timedelta(seconds=60))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def row_of(connection: Connection, job_id: UUID) -> Row:
    row = await connection.fetchrow("SELECT * FROM rowlock.jobs WHERE id = $1", job_id)
    assert row is not None, "the job is not there"
    return dict(row)


async def attempts_of(connection: Connection, job_id: UUID) -> list[Row]:
    rows = await connection.fetch("SELECT * FROM rowlock.attempt WHERE job_id = $1 ORDER BY attempt", job_id)
    return [dict(row) for row in rows]


async def states(connection: Connection) -> dict[str, int]:
    rows = await connection.fetch("SELECT state, count(*) FROM rowlock.jobs GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


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


# Whatever a handler produces.


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class NotAnException(BaseException):
    """Some libraries derive their signals from the root."""


class Pretender(Exception):
    """Says that it is a directive, and has nothing of one."""

    __class__ = property(lambda _: Snooze)


class Unheard(Directive):
    """A directive that is none of Rowlock's."""


def deep() -> BaseException:
    def down(n: int) -> None:
        down(n + 1)

    try:
        down(0)
    except RecursionError as error:
        return error
    raise AssertionError


def chained() -> Exception:
    error = ValueError("link 0")
    for number in range(1, 300):
        following = ValueError(f"link {number}")
        following.__cause__ = error
        error = following
    return error


AWKWARD: dict[str, tuple[Callable[[], BaseException], str]] = {
    "NUL": (lambda: ValueError("a\0b"), "a␀b"),
    "lone surrogate": (lambda: ValueError("a\ud800b"), "a\ufffdb"),
    "no text": (Unspeakable, "no message"),
    "long text": (lambda: ValueError("x" * 5_000_000), "characters left out"),
    "SystemExit": (lambda: SystemExit(3), "3"),
    "KeyboardInterrupt": (KeyboardInterrupt, ""),
    "CancelledError": (lambda: asyncio.CancelledError("by itself"), "by itself"),
    "StopIteration": (lambda: StopIteration("stop"), "StopIteration"),
    "StopAsyncIteration": (lambda: StopAsyncIteration("stop"), "stop"),
    "GeneratorExit": (GeneratorExit, ""),
    "BaseException": (lambda: NotAnException("bare"), "bare"),
    "BaseExceptionGroup": (lambda: BaseExceptionGroup("several", [NotAnException("bare")]), "several"),
    "chain": (chained, "link 299"),
    "huge traceback": (deep, "maximum recursion depth"),
    "class that lies": (lambda: Pretender("I"), "cannot be read"),
    "unknown directive": (lambda: Unheard("II"), "cannot be read"),
    "group": (lambda: ExceptionGroup("both", [ValueError("a\0"), chained()]), "both"),
}


def awkward(what: str) -> BaseException:
    return AWKWARD[what][0]()


@pytest.mark.parametrize("is_plain", [False, True], ids=["async", "plain"])
async def test_whatever_a_handler_raises_is_an_error_of_its_job_and_of_nothing_else(
    is_plain: bool, app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def throw(what: str) -> None:
        raise awkward(what)

    @app.task(max_attempts=1)
    def throw_plainly(what: str) -> None:
        raise awkward(what)

    @app.task
    async def good() -> str:
        return "good"

    task = throw_plainly if is_plain else throw
    handles = {what: await task.enqueue(what) for what in AWKWARD}
    async with app.worker(concurrency=4):
        last = await good.using(priority=0).enqueue()

        async def all_have_ended() -> bool:
            return "running" not in (seen := await states(connection)) and "queued" not in seen

        await eventually(all_have_ended)
    assert await last.result(timeout=5) == "good"
    for what, handle in handles.items():
        row = await row_of(connection, handle.id)
        assert (row["state"], row["errors"], row["crashes"]) == ("failed", 1, 0), what
        [told] = await attempts_of(connection, handle.id)
        assert told["outcome"] == "error", what
        assert AWKWARD[what][1] in f"{told['error_type']} {told['message']}", what
        assert len(told["traceback"]) < 40_000


async def test_a_result_that_cannot_be_stored_is_a_failed_attempt_that_says_why(
    settings: Settings, connection: Connection
) -> None:
    class Thing:
        pass

    results: dict[str, tuple[object, str]] = {
        "object": (Thing(), "cannot be stored"),
        "NaN": (float("nan"), "NaN"),
        "NUL": ({"a": "b\0c"}, "NUL"),
        "surrogate": ("\udfff", "surrogate"),
        "too large": ("x" * 2000, "2,002 bytes"),
    }
    nested: list[object] = []
    for _ in range(2000):
        nested = [nested]
    results["nested"] = (nested, "nested deeper")
    async with Rowlock(settings=replace(settings, max_result_bytes=1000)) as app:

        @app.task(max_attempts=2, backoff=0)
        async def make(what: str) -> Any:  # noqa: ANN401  # that is the test
            return results[what][0]

        @app.task
        async def good() -> str:
            return "x" * 998

        handles = {what: await make.enqueue(what) for what in results}
        fine = await good.enqueue()
        await app.worker().drain()
        assert await fine.result(timeout=5) == "x" * 998
        for what, handle in handles.items():
            row = await row_of(connection, handle.id)
            assert (row["state"], row["errors"], row["result"]) == ("failed", 2, None), what
            assert "InvalidResult" in row["error"]
            assert results[what][1] in row["error"], row["error"]


async def test_a_result_that_only_the_database_refuses_fails_its_own_job_and_no_other_of_the_batch(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def make(n: int) -> int:
        return n

    await connection.execute("ALTER TABLE rowlock.finished_job ADD CONSTRAINT unlucky CHECK (result <> '13')")
    await app.enqueue_many([make.job(n) for n in range(30)])
    await app.worker().drain()
    assert await states(connection) == {"succeeded": 29, "failed": 1}
    error = await connection.fetchval("SELECT error FROM rowlock.jobs WHERE state = 'failed'")
    assert "the result cannot be stored: CheckViolationError" in error


async def test_an_error_text_that_the_database_refuses_is_left_out(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def broken(n: int) -> None:
        raise ValueError(f"number {n}")

    await connection.execute("ALTER TABLE rowlock.attempt ADD CONSTRAINT unlucky CHECK (message <> 'number 3')")
    handles = await app.enqueue_many([broken.job(n) for n in range(6)])
    await app.worker().drain()
    assert await states(connection) == {"failed": 6}
    for n, handle in enumerate(handles):
        [told] = await attempts_of(connection, handle.id)
        assert told["message"] == (None if n == 3 else f"number {n}")


async def test_arguments_that_do_not_fit_are_failed_attempts_that_say_why(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=2, backoff=0)
    async def take(number: int, word: str = "x") -> None: ...

    documents = {
        "{}": "number",
        '{"number": "many"}': "number",
        '{"number": 1, "stranger": 2}': "stranger",
        '{"number": 1.5}': "number",
        f'{{"number": {"9" * 5000}}}': "",
    }
    ids = {
        text: await connection.fetchval("SELECT rowlock.enqueue('take', $1, max_attempts => 2)", text)
        for text in documents
    }
    fits = await connection.fetchval("""SELECT rowlock.enqueue('take', '{"number": 1}')""")
    await app.worker().drain()
    assert (await row_of(connection, fits))["state"] == "succeeded"
    for text, word in documents.items():
        row = await row_of(connection, ids[text])
        assert (row["state"], row["errors"]) == ("failed", 2), text[:50]
        assert "InvalidArguments: Task 'take'" in row["error"]
        assert word in row["error"]


# What runs when.


async def test_the_urgent_run_first_and_equals_in_the_order_in_which_they_came(app: Rowlock) -> None:
    order: list[tuple[int, int]] = []

    @app.task
    async def note(priority: int, n: int) -> None:
        order.append((priority, n))

    for n in range(4):
        for priority in (5, 0, 9, 3):
            await note.using(priority=priority).enqueue(priority, n)
    await app.worker(concurrency=1).drain()
    assert order == [(priority, n) for priority in (9, 5, 3, 0) for n in range(4)]


async def test_a_limited_queue_runs_no_more_than_its_limit_while_others_go_on(app: Rowlock) -> None:
    at_once: Counter[str] = Counter()
    most: Counter[str] = Counter()

    @app.task
    async def hold(queue: str) -> None:
        at_once[queue] += 1
        most[queue] = max(most[queue], at_once[queue])
        await asyncio.sleep(0.005)
        at_once[queue] -= 1

    jobs = [hold.using(queue="reports", priority=n % 10).job("reports") for n in range(40)]
    await app.enqueue_many(jobs + [hold.using(queue="email").job("email") for _ in range(40)])
    assert await app.worker(queues=["reports:2", "email"], concurrency=10).drain() == 80
    assert most["reports"] == 2
    assert 2 < most["email"] <= 10


async def test_the_slot_of_a_limited_queue_is_filled_as_soon_as_it_is_free(unpolled: Settings) -> None:
    async with Rowlock(settings=unpolled) as app:

        @app.task(queue="reports")
        async def hold() -> None:
            await asyncio.sleep(0.05)

        handles = await app.enqueue_many([hold.job() for _ in range(6)])
        async with app.worker(queues=["reports:2"], concurrency=10):
            for handle in handles:
                await handle.result(timeout=20)


async def test_a_big_backlog_in_one_queue_starves_no_other(app: Rowlock) -> None:
    order: list[str] = []

    @app.task
    async def note(queue: str) -> None:
        order.append(queue)

    await app.enqueue_many([note.using(queue="big", priority=9).job("big") for _ in range(3000)])
    await app.enqueue_many([note.using(queue=q, priority=0).job(q) for q in ("a", "b", "c") for _ in range(3)])
    await app.worker(queues=["big", "a", "b", "c"], concurrency=2).drain()
    assert len(order) == 3009
    last = max(position for position, queue in enumerate(order) if queue != "big")
    assert last < 1500, "the small queues were served while the big one had work"


async def test_a_worker_serves_the_queues_that_it_was_given_alone(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def note() -> None: ...

    mine = await note.using(queue="mine").enqueue()
    other = await note.using(queue="other").enqueue()
    assert await app.worker(queues=["mine"]).drain() == 1
    assert (await mine.get()).state == "succeeded"
    assert (await other.get()).state == "queued"


async def test_queues_that_make_no_sense_are_refused(app: Rowlock) -> None:
    for queues in (["a:0"], ["a:x"], ["a:-1"], ["a:"], ["a b"], [""], [".."]):
        with pytest.raises(InvalidOption, match="queue"):
            app.worker(queues=queues)
    senseless: list[dict[str, Any]] = [{"concurrency": 0}, {"threads": 0}]
    for options in senseless:
        with pytest.raises(InvalidOption, match="at least 1"):
            app.worker(**options)


async def test_a_job_of_an_unknown_task_stays_queued_and_untouched(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def known() -> None: ...

    stranger = await connection.fetchval("SELECT rowlock.enqueue('stranger', priority => 9)")
    before = await row_of(connection, stranger)
    handle = await known.enqueue()
    assert await app.worker(concurrency=1).drain() == 1
    assert (await handle.get()).state == "succeeded"
    assert await row_of(connection, stranger) == before
    assert await attempts_of(connection, stranger) == []


@pytest.mark.needs_session("it waits for a notification")
async def test_a_job_runs_at_about_its_time_and_not_at_the_next_poll(unpolled: Settings) -> None:
    async with Rowlock(settings=unpolled) as app:

        @app.task
        async def later() -> None: ...

        async with app.worker():
            for delay in (0.3, 0.0, 0.6):
                handle = await later.using(delay=delay).enqueue()
                await handle.result(timeout=15)
                job = await handle.get()
                assert job.started_at is not None
                assert timedelta(0) <= job.started_at - job.run_at < timedelta(seconds=5)


@pytest.mark.needs_session("it waits for a notification")
async def test_a_notification_wakes_an_idle_worker(
    unpolled: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "rowlock.queue.connect.listening.TEST_EVERY", 3600.0
    )  # after each test of its hearing a worker looks for jobs
    async with Rowlock(settings=unpolled) as app:

        @app.task
        async def quick() -> None: ...

        @app.task(queue="other")
        async def in_other() -> None: ...

        async with app.worker():

            async def is_idle() -> bool:
                marks: int = await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker")
                return marks == 2

            await eventually(is_idle)
            await (await quick.enqueue()).result(timeout=10)
            await (await in_other.enqueue()).result(timeout=10)
            [copied] = await app.enqueue_many([quick.job()])
            await copied.result(timeout=10)
            async with connection.transaction():
                [inserted] = await app.enqueue_many([in_other.job()], connection=connection)
            await inserted.result(timeout=10)
            sql: UUID = await connection.fetchval("SELECT rowlock.enqueue('quick')")
            await app.handle(await app.get(sql)).result(timeout=10)
        assert await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker") == 0, "it left no mark behind"


async def test_without_listening_polling_finds_the_work(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=replace(settings, listen=False)) as app:

        @app.task(max_attempts=2, backoff=0)
        async def flaky(job: Job) -> int:
            if job.attempt == 1:
                raise ValueError("once")
            return job.attempt

        async with app.worker():
            await (await flaky.using(delay=0.3).enqueue()).result(timeout=10)
            assert await (await flaky.enqueue()).result(timeout=10) == 2
            assert await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker") == 0


async def test_a_job_can_enqueue_jobs(app: Rowlock) -> None:
    seen: list[int] = []

    @app.task
    async def count_down(n: int) -> None:
        seen.append(n)
        if n:
            await count_down.enqueue(n - 1)

    await count_down.enqueue(5)
    assert await app.worker().drain() == 6
    assert seen == [5, 4, 3, 2, 1, 0]


async def test_two_workers_share_the_work_and_each_job_runs_once(app: Rowlock, connection: Connection) -> None:
    runs: Counter[int] = Counter()
    both = asyncio.Event()

    @app.task
    async def note(n: int) -> None:
        runs[n] += 1
        if len(runs) == 40:
            both.set()  # more than one of them could hold
        await both.wait()

    await app.enqueue_many([note.job(n) for n in range(2000)])
    async with app.worker(concurrency=20), app.worker(concurrency=20):

        async def all_succeeded() -> bool:
            return await states(connection) == {"succeeded": 2000}

        await eventually(all_succeeded, timeout=30)
    assert runs == Counter(range(2000))
    shares = await connection.fetch("SELECT worker, count(*) FROM rowlock.finished_job GROUP BY worker")
    assert len(shares) == 2
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt") == 0


# The surroundings of a handler.

_seen_by: contextvars.ContextVar[int | None] = contextvars.ContextVar("seen_by", default=None)


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


# The end of a worker.


async def start(worker: Worker) -> asyncio.Task[None]:
    running = asyncio.create_task(worker.run(handle_signals=False))
    await eventually(lambda: worker._opened is not None)
    return running


async def test_a_worker_that_stops_lets_its_jobs_finish(app: Rowlock, connection: Connection) -> None:
    began, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def long() -> str:
        began.set()
        await go.wait()
        return "finished"

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop()
    late = await long.enqueue()
    go.set()
    await asyncio.wait_for(running, 10)
    row = await row_of(connection, handle.id)
    assert (row["state"], row["result"], row["attempt"]) == ("succeeded", '"finished"', 1)
    assert await attempts_of(connection, handle.id) == []
    assert (await row_of(connection, late.id))["state"] == "queued", "it claims no more"


async def test_what_is_not_done_after_the_grace_is_given_back_and_runs_elsewhere(
    app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @app.task(max_attempts=1)
    async def long(job: Job) -> int:
        began.set()
        if job.attempt == 1:
            await asyncio.Event().wait()
        return job.attempt

    handle = await long.using(unique="k").enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    with capture_logs() as logs:
        worker.stop(grace=timedelta(0))
        await asyncio.wait_for(running, 10)
    (entry,) = [entry for entry in logs if entry["event"] == "job_given_back"]
    assert (entry["job_id"], entry["attempt"], entry["why"]) == (str(handle.id), 1, "shutdown")
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"], row["crashes"]) == ("queued", 1, 0, 0)
    assert row["error"] is None
    [told] = await attempts_of(connection, handle.id)
    assert (told["outcome"], told["attempt"], told["error_type"]) == ("released", 1, None)
    assert (await long.using(unique="k").enqueue()).id == handle.id, "it still holds its key"
    await app.worker().drain()
    assert await handle.result(timeout=5) == 2


async def test_the_grace_can_be_cut_short_while_it_runs(app: Rowlock, connection: Connection) -> None:
    began = asyncio.Event()

    @app.task
    async def long() -> None:
        began.set()
        await asyncio.Event().wait()

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=timedelta(seconds=60))
    done, _ = await asyncio.wait([running], timeout=1.5)
    assert not done, "the grace was given"
    worker.stop(grace=timedelta(0))
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["state"] == "queued"


async def test_a_worker_that_stops_gives_back_what_it_claimed_ahead(app: Rowlock, connection: Connection) -> None:
    is_slow = False
    held = asyncio.Event()

    @app.task
    async def work(n: int) -> None:
        if is_slow:
            held.set()
            await asyncio.Event().wait()
        if n == 1000:
            turn()

    def turn() -> None:
        nonlocal is_slow
        is_slow = True

    await app.enqueue_many([work.job(n) for n in range(3000)])
    worker = app.worker(concurrency=2)
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(held.wait(), 30)
    worker.stop(grace=timedelta(0))
    await asyncio.wait_for(running, 10)
    seen = await states(connection)
    assert set(seen) == {"succeeded", "queued"}
    assert sum(seen.values()) == 3000
    released = await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome = 'released'")
    assert released > 2, "some had been claimed ahead"
    assert await connection.fetchval("SELECT max(errors) + max(crashes) FROM rowlock.job") == 0
    is_slow = False
    await app.worker().drain()
    assert await states(connection) == {"succeeded": 3000}


async def test_a_handler_that_ignores_being_cancelled_does_not_hold_up_the_stop(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.shift.LAST_SECONDS", 0.1)
    began, go = asyncio.Event(), asyncio.Event()

    @app.task
    async def stubborn(job: Job) -> str:
        began.set()
        while job.attempt == 1 and not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue
        return f"attempt {job.attempt}"

    handle = await stubborn.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=timedelta(0))
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["state"] == "queued"
    await app.worker().drain()
    go.set()  # the first attempt ends now, and nobody listens
    assert await handle.result(timeout=5) == "attempt 2"


async def test_a_handler_that_finishes_when_cancelled_at_the_stop_has_finished(
    app: Rowlock, connection: Connection
) -> None:
    began = asyncio.Event()

    @app.task
    async def thrifty() -> str:
        began.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "saved"
        return "never"

    handle = await thrifty.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    await asyncio.wait_for(began.wait(), 10)
    worker.stop(grace=timedelta(0))
    await asyncio.wait_for(running, 10)
    assert (await row_of(connection, handle.id))["result"] == '"saved"'


async def test_a_worker_that_was_never_opened_says_that_it_has_no_id_and_no_delays_yet(app: Rowlock) -> None:
    worker = app.worker()
    for ask in (lambda: worker.id, lambda: worker.loop_delay, lambda: worker.loop_delay_max):
        with pytest.raises(RowlockError, match=r"has not started.*Call run\(\)"):
            ask()
    assert not worker.is_leased
    assert not worker.has_leftover_threads
    assert worker.figures is None


async def test_a_plain_function_that_goes_on_after_the_stop_is_given_back_and_reported(
    app: Rowlock, connection: Connection
) -> None:
    began, go = threading.Event(), threading.Event()

    @app.task
    def long(job: Job) -> int:
        began.set()
        if job.attempt == 1:
            go.wait(20)
        return job.attempt

    handle = await long.enqueue()
    worker = app.worker()
    running = asyncio.create_task(worker.run(handle_signals=False))
    try:
        await eventually(began.is_set)
        worker.stop(grace=timedelta(0))
        await asyncio.wait_for(running, 10)
        assert worker.has_leftover_threads
        assert (await row_of(connection, handle.id))["state"] == "queued"
        async with worker:
            assert await handle.result(timeout=10) == 2
            assert worker.has_leftover_threads, "from before it was opened again"
        assert worker.has_leftover_threads
    finally:
        go.set()
    await eventually(lambda: not worker.has_leftover_threads)


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_a_worker_in_a_block_works_as_long_as_the_block(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def quick() -> int:
        return 1

    async with app.worker() as worker:
        assert await (await quick.enqueue()).result(timeout=10) == 1
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE id = $1", worker.id) == 1
    handle = await quick.enqueue()
    assert (await handle.get()).state == "queued"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > now()") == 0

    async def are_gone() -> bool:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ $1"
        left: int = await connection.fetchval(query, "^rowlock (attention|claim|finish|upkeep|lease)")
        return left == 0

    await eventually(are_gone)


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_a_worker_that_loses_the_database_while_it_starts_says_so_and_lets_go(
    app: Rowlock, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: object, **__: object) -> None:
        raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")

    monkeypatch.setattr("rowlock.worker.vitals.lease.Lease.begin", lose)
    with pytest.raises(DatabaseUnavailable, match="cannot switch to state 12"):
        await app.worker().run(handle_signals=False)
    left = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'rowlock claim'"
    await eventually(lambda: _is_zero(connection, left))


async def _is_zero(connection: asyncpg.Connection, query: str) -> bool:
    found: int = await connection.fetchval(query)
    return found == 0


async def test_a_worker_says_why_it_cannot_start(empty_database_url: str, settings: Settings) -> None:
    async with Rowlock(settings=Settings(database_url="postgresql://u:secret@127.0.0.1:1/none")) as app:
        with pytest.raises(DatabaseUnavailable, match="check that the server runs"):
            await app.worker().run(handle_signals=False)
    async with Rowlock(settings=Settings(database_url=empty_database_url)) as app:
        with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
            await app.worker().run(handle_signals=False)
        with pytest.raises(SchemaNotMigrated, match="rowlock migrate"):
            await app.worker().drain()
    changing = await asyncpg.connect(settings.database_url)
    await changing.execute("UPDATE rowlock.rowlock_version SET version_num = '9999'")
    await changing.close()
    async with Rowlock(settings=settings) as app:
        with pytest.raises(SchemaTooNew, match="upgrade"):
            await app.worker().run(handle_signals=False)
