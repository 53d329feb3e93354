"""Whatever a handler raises or returns, its job has an outcome, and no other job is touched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings, Snooze
from rowlock.queue.jobs.lifecycle import Directive
from tests.db.rows import attempts_of, row_of, states
from tests.waiting import eventually

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
        "too large": ("x" * 2000, "got 2,002"),
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
