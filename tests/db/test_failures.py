"""What happens around an attempt: which errors are retried, who is told of a failure, what middleware may change."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import CallNext, Cancel, Fail, Job, Retry, Rowlock, Settings, Snooze, Task
from rowlock.queue.tasks.backoff import BackoffOption
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Row: TypeAlias = Mapping[str, Any]


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = Settings(database_url=database_url, poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as opened:
        yield opened


async def row_of(connection: Connection, job_id: UUID) -> Row:
    row = await connection.fetchrow("SELECT *, run_at - now() AS wait FROM rowlock.jobs WHERE id = $1", job_id)
    assert row is not None, "the job is not there"
    return dict(row)


# Which errors are retried, and when.


@pytest.mark.parametrize(
    "options, error, attempts",
    [
        ({"retry_on": (TimeoutError, OSError)}, ConnectionError("no"), 3),
        ({"retry_on": (TimeoutError, OSError)}, ValueError("no"), 1),
        ({"never_retry": (ValueError,)}, UnicodeError("no"), 1),
        ({"never_retry": (ValueError,)}, LookupError("no"), 3),
    ],
)
async def test_rules_say_which_errors_are_worth_another_attempt(
    app: Rowlock, connection: Connection, options: dict[str, Any], error: Exception, attempts: int
) -> None:
    async def raises() -> None:
        raise error

    task: Task[[], None] = app.task(max_attempts=3, backoff=[0], **options)(raises)
    handle = await task.enqueue()
    await app.worker().drain()
    row = await row_of(connection, handle.id)
    assert (row["state"], row["attempt"], row["errors"]) == ("failed", attempts, attempts)


async def test_an_attempt_that_takes_too_long_is_a_timeout_error_to_the_rules(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=2, backoff=0, timeout=0.01, retry_on=TimeoutError)
    async def sleeps() -> None:
        await asyncio.sleep(60)

    handle = await sleeps.enqueue()
    await app.worker().drain()
    assert (await row_of(connection, handle.id))["attempt"] == 2


@pytest.mark.parametrize(
    "backoff, seconds",
    [
        ([100, 200], (100, 200, 200)),
        (lambda attempt, error: attempt * len(str(error)) * 10, (40, 80, 120)),
        (lambda _attempt, _error: -1, (2, 4, 8)),
    ],
)
async def test_a_list_or_a_function_says_when(
    app: Rowlock, connection: Connection, backoff: BackoffOption, seconds: tuple[int, ...]
) -> None:
    @app.task(backoff=backoff)
    async def raises() -> None:
        raise OSError("four")

    handle = await raises.enqueue()
    for expected in seconds:
        await connection.execute("UPDATE rowlock.job SET run_at = clock_timestamp() - interval '1 s'")
        await app.worker().drain()
        wait = (await row_of(connection, handle.id))["wait"].total_seconds()
        assert expected * 0.85 - 1 < wait <= expected


# Who is told of a failure.


async def test_failure_handlers_are_called_once_when_no_attempt_is_left_those_of_the_task_first(app: Rowlock) -> None:
    seen: list[tuple[str, str, int, str | None, BaseException]] = []

    @app.on_failure
    async def any_task(job: Job, error: BaseException) -> None:
        seen.append(("app", job.state, job.errors, job.error, error))

    @app.task(max_attempts=2, backoff=0)
    async def broken() -> None:
        raise ValueError("no")

    @broken.on_failure
    def in_thread(job: Job, error: BaseException) -> None:
        assert threading.current_thread().name.startswith("rowlock-failure")
        seen.append(("task", job.state, job.errors, job.error, error))

    @app.task
    async def fine() -> None: ...

    await broken.enqueue()
    await fine.enqueue()
    await app.worker().drain()
    (first, *told), (second, *_) = seen
    assert (first, second) == ("task", "app")
    assert told[:3] == ["failed", 2, "ValueError: no"]
    assert isinstance(told[3], ValueError)


async def test_failure_handlers_hear_of_fail_and_of_nothing_else_that_a_handler_decides(
    app: Rowlock, connection: Connection
) -> None:
    seen: list[BaseException] = []

    @app.on_failure
    async def note(job: Job, error: BaseException) -> None:
        seen.append(error)

    @app.task
    async def decide(job: Job, what: str) -> None:
        match what:
            case "snooze" if job.attempt == 1:
                raise Snooze(0)
            case "retry" if job.attempt == 1:
                raise Retry(0)
            case "cancel":
                raise Cancel("no need")
            case "fail":
                raise Fail("hopeless")

    for what in ("snooze", "retry", "cancel", "fail"):
        await decide.enqueue(what)
    await app.worker().drain()
    assert [str(error) for error in seen] == ["hopeless"]


async def test_a_failure_handler_that_raises_is_logged_and_the_outcome_and_the_other_handlers_stand(
    app: Rowlock, connection: Connection
) -> None:
    seen: list[str] = []

    @app.task(max_attempts=1)
    async def broken() -> None:
        raise ValueError("no")

    @broken.on_failure
    async def raises(job: Job, error: BaseException) -> None:
        raise RuntimeError("the handler is broken, too")

    @broken.on_failure
    def raises_in_thread(job: Job, error: BaseException) -> None:
        raise SystemExit("out")

    @broken.on_failure
    async def cancels(job: Job, error: BaseException) -> None:
        raise asyncio.CancelledError

    @broken.on_failure
    async def last(job: Job, error: BaseException) -> None:
        seen.append("last")

    handle = await broken.enqueue()
    with capture_logs() as logs:
        await app.worker().drain()
    row = await row_of(connection, handle.id)
    assert (row["state"], row["error"]) == ("failed", "ValueError: no")
    assert seen == ["last"]
    failures = [entry for entry in logs if entry["event"] == "failure_handler_failed"]
    assert [entry["error"] for entry in failures] == ["RuntimeError", "SystemExit", "CancelledError"]
    assert failures[0]["handler"].endswith("raises")


async def test_a_failure_handler_that_hangs_holds_up_no_other_job_and_is_left_when_its_time_is_up(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    @app.task(max_attempts=1)
    async def broken() -> None:
        raise ValueError("no")

    @broken.on_failure
    async def hangs(job: Job, error: BaseException) -> None:
        reached.set()
        await asyncio.sleep(600)

    @app.task
    async def other() -> str:
        return "done"

    monkeypatch.setattr("rowlock.worker.attempt.failure_handlers.SECONDS", 0.3)
    async with app.worker(concurrency=2):
        handle = await broken.enqueue()
        await reached.wait()
        assert await (await other.enqueue()).result(timeout=5) == "done"
        assert await eventually(lambda: _is_failed(connection, handle.id))


async def _is_failed(connection: Connection, job_id: UUID) -> bool:
    return bool((await row_of(connection, job_id))["state"] == "failed")


async def test_the_outcome_stands_where_the_workers_stop_cuts_a_failure_handler_short(
    app: Rowlock, connection: Connection
) -> None:
    reached = asyncio.Event()

    @app.task(max_attempts=1)
    async def broken() -> None:
        raise ValueError("no")

    @broken.on_failure
    async def hangs(job: Job, error: BaseException) -> None:
        reached.set()
        await asyncio.sleep(600)

    handle = await broken.enqueue()
    async with app.worker() as worker:
        await reached.wait()
        worker.stop(grace=0)
    assert await _is_failed(connection, handle.id)


# Middleware.


async def test_middleware_runs_around_every_attempt_in_the_order_of_registration(app: Rowlock) -> None:
    seen: list[str] = []

    def note(name: str) -> None:
        @app.middleware
        async def around(job: Job, call_next: CallNext) -> object:
            seen.append(f"{name} before {job.task}")
            try:
                return await call_next()
            finally:
                seen.append(f"{name} after {job.task}")

    note("outer")
    note("inner")

    @app.task
    async def on_loop() -> None:
        seen.append("on_loop")

    @app.task
    def in_thread(job: Job, word: str) -> None:
        seen.append(f"{word} of {job.task}")

    await on_loop.enqueue()
    await app.worker().drain()
    await in_thread.enqueue("hello")
    await app.worker().drain()
    assert seen == [
        "outer before on_loop",
        "inner before on_loop",
        "on_loop",
        "inner after on_loop",
        "outer after on_loop",
        "outer before in_thread",
        "inner before in_thread",
        "hello of in_thread",
        "inner after in_thread",
        "outer after in_thread",
    ]


async def test_middleware_sees_and_changes_values_and_exceptions(app: Rowlock, connection: Connection) -> None:
    seen: list[object] = []

    @app.middleware
    async def change(job: Job, call_next: CallNext) -> object:
        try:
            value = await call_next()
        except ZeroDivisionError as error:
            seen.append(error)
            raise Cancel("nothing to divide") from error
        except TimeoutError as error:
            seen.append(error)
            return "better late than never"
        seen.append(value)
        return [value, value]

    @app.task(timeout=0.05)
    async def divide(a: int, b: int) -> float:
        if b < 0:
            await asyncio.sleep(60)
        return a / b

    handles = [await divide.enqueue(*pair) for pair in ((6, 3), (1, 0), (1, -1))]
    await app.worker(concurrency=1).drain()
    rows = [await row_of(connection, handle.id) for handle in handles]
    assert [(row["state"], row["result"] or row["error"]) for row in rows] == [
        ("succeeded", "[2.0, 2.0]"),
        ("cancelled", "Cancel: nothing to divide"),
        ("succeeded", '"better late than never"'),
    ]
    assert [type(thing) for thing in seen[:2]] == [float, ZeroDivisionError]


async def test_a_middleware_may_answer_itself_raise_or_decide(app: Rowlock, connection: Connection) -> None:
    @app.middleware
    async def gate(job: Job, call_next: CallNext) -> object:
        match job.args["what"]:
            case "answer":
                return "from the cache"
            case "return":
                return Fail("not today")
            case "retry" if job.attempt == 1:
                raise Retry(0)
            case "raise":
                raise LookupError("no such tenant")
        return await call_next()

    @app.task(max_attempts=2, never_retry=LookupError)
    async def work(what: str) -> str:
        return f"worked: {what}"

    handles = {what: await work.enqueue(what) for what in ("answer", "return", "retry", "raise", "work")}
    await app.worker().drain()
    rows = {what: await row_of(connection, handle.id) for what, handle in handles.items()}
    assert {what: (row["state"], row["result"] or row["error"], row["attempt"]) for what, row in rows.items()} == {
        "answer": ("succeeded", '"from the cache"', 1),
        "return": ("failed", "Fail: not today", 1),
        "retry": ("succeeded", '"worked: retry"', 2),
        "raise": ("failed", "LookupError: no such tenant", 1),
        "work": ("succeeded", '"worked: work"', 1),
    }


async def test_without_middleware_a_job_takes_the_path_that_has_no_frame_for_it(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise AssertionError("the path of middleware was taken")

    monkeypatch.setattr("rowlock.worker.attempt.performer.call_through", refuse)

    @app.task
    async def work() -> int:
        return 1

    handle = await work.enqueue()
    await app.worker().drain()
    assert await handle.result(timeout=5) == 1


# The watchdog, in its worker.


async def test_a_worker_names_the_job_that_blocks_its_loop(database_url: str) -> None:
    settings = Settings(database_url=database_url, blocked_loop_after=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:
        with capture_logs() as logs:

            @app.task
            async def compute() -> None:
                told = threading.Event()
                while not any(entry["event"] == "event_loop_blocked" for entry in logs):
                    told.wait(0.005)

            handle = await compute.enqueue()
            worker = app.worker()
            await worker.drain()
        blocked = next(entry for entry in logs if entry["event"] == "event_loop_blocked")
        assert (blocked["task"], blocked["job_id"]) == ("compute", str(handle.id))
        assert "in compute" in blocked["stack"]
        assert worker.loop_delay_max >= 0.05


async def test_the_row_of_a_worker_says_how_late_its_loop_was(database_url: str, connection: Connection) -> None:
    settings = Settings(
        database_url=database_url, heartbeat=timedelta(seconds=0.05), blocked_loop_after=timedelta(milliseconds=10)
    )

    async def is_told() -> bool:
        return bool(await connection.fetchval("SELECT max(loop_delay_ms) >= 10 FROM rowlock.worker"))

    async with Rowlock(settings=settings) as app:

        @app.task
        async def compute() -> None:
            threading.Event().wait(0.1)

        async with app.worker():
            await compute.enqueue()
            await eventually(is_told)
