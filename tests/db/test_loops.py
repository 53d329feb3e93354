"""The application on many event loops, one after the other: what it keeps for a loop ends with the loop."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
import uvloop
from asgiref.sync import async_to_sync

from rowlock import InvalidOption, Rowlock, Task
from rowlock.queue.connect.database import _kept_by
from tests.conftest import Server
from tests.db.links import linked

Run: TypeAlias = Callable[[Coroutine[Any, Any, object]], object]

LOOPS = 80


def by_asgiref(coroutine: Coroutine[Any, Any, object]) -> object:
    async def call() -> object:
        return await coroutine

    return async_to_sync(call)()


def by_a_loop_that_is_only_closed(
    coroutine: Coroutine[Any, Any, object], make: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
) -> object:
    loop = make()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def by_a_loop_that_nobody_closes(coroutine: Coroutine[Any, Any, object]) -> None:
    """As a thread does it that makes a loop of its own, and ends."""

    def run() -> None:
        asyncio.new_event_loop().run_until_complete(coroutine)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def app_of(database_url: str) -> tuple[Rowlock, Task[[int], None]]:
    app = Rowlock(database_url)

    @app.task
    async def count(number: int) -> None: ...

    return app, count


def sessions(database_url: str, name: str = "rowlock client", *, at_most: int = 1) -> int:
    """How many sessions of applications there are, once those have gone that are about to."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        left = 0
        for _ in range(500):
            left, _ = connection.execute(
                "SELECT count(*), pg_sleep(0.01) FROM pg_stat_activity"
                " WHERE application_name = %s AND datname = current_database()",
                [name],
            ).fetchall()[0]
            if left <= at_most:
                break
        return left


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.needs_session
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.parametrize("run", [asyncio.run, by_asgiref])
def test_connections_end_with_their_event_loops(run: Run, database_url: str) -> None:
    _, count = app_of(database_url)
    run(count.enqueue(0))
    before = descriptors()
    most = 0
    for number in range(1, LOOPS):
        run(count.enqueue(number))
        most = max(most, descriptors())
    assert most <= before + 1
    assert sessions(database_url) <= 1
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM rowlock.job").fetchone() == (LOOPS,)


@pytest.fixture
def nothing_is_collected() -> Iterator[None]:
    """Have nothing be collected, unless the test says so: what it counts would depend on it."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()  # the transports complain here, and not in another test


@pytest.mark.needs_session
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("nothing_is_collected")
@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_connections_of_a_loop_that_was_only_closed_end_with_the_next_loop(
    make: Callable[[], asyncio.AbstractEventLoop], database_url: str
) -> None:
    _, count = app_of(database_url)
    by_a_loop_that_is_only_closed(count.enqueue(0), make)
    before = descriptors()
    for number in range(1, LOOPS):
        by_a_loop_that_is_only_closed(count.enqueue(number), make)
    assert descriptors() <= before + 2
    assert sessions(database_url) <= 1


@pytest.mark.needs_session
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("nothing_is_collected")
def test_the_connection_for_results_of_a_loop_that_was_only_closed_ends_with_the_next_loop(
    database_url: str,
) -> None:
    app, count = app_of(database_url)

    async def wait() -> None:
        handle = await count.enqueue(1)
        async with app.database.watch(handle.id) as told:
            assert told is not None

    by_a_loop_that_is_only_closed(wait())
    assert sessions(database_url, "rowlock results", at_most=1) == 1
    by_a_loop_that_is_only_closed(count.enqueue(2))
    assert sessions(database_url, "rowlock results", at_most=0) == 0


@pytest.mark.needs_session
@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("at_once", [1, 5])
def test_connections_of_a_loop_that_nobody_closed_end_when_it_is_collected(at_once: int, database_url: str) -> None:
    _, count = app_of(database_url)

    async def enqueue() -> None:
        await asyncio.gather(*(count.enqueue(number) for number in range(at_once)))

    gc.collect()
    before = descriptors()
    for _ in range(10):
        by_a_loop_that_nobody_closes(enqueue())
    gc.collect()
    assert descriptors() <= before + 2
    assert sessions(database_url, at_most=0) == 0


async def test_a_loop_keeps_nothing_for_an_application_that_nobody_has_any_more(database_url: str) -> None:
    app, count = app_of(database_url)
    await count.enqueue(1)
    loop = asyncio.get_running_loop()
    assert len(_kept_by(loop)) == 1
    await app.close()
    assert len(_kept_by(loop)) == 0
    await count.enqueue(2)
    del app, count
    gc.collect()
    assert len(_kept_by(loop)) == 0


def test_a_wait_for_a_result_leaves_nothing_behind(database_url: str) -> None:
    app, count = app_of(database_url)

    async def wait() -> None:
        handle = await count.enqueue(1)
        await app.worker().drain()
        await handle.result(timeout=10)

    for _ in range(3):
        asyncio.run(wait())
    assert sessions(database_url) <= 1


async def test_an_application_goes_on_after_close_on_the_same_loop(database_url: str) -> None:
    app, count = app_of(database_url)
    for number in range(3):
        await count.enqueue(number)
        await app.close()
    assert app.database.pool_use(asyncio.get_running_loop()).size == 0


@pytest.mark.slow
async def test_enqueues_that_are_cancelled_at_any_moment_say_nothing(server: Server, database_url: str) -> None:
    async with linked(server, database_url) as link:
        app, count = app_of(link.url)
        async with app:
            await cancel_enqueues(count)


async def cancel_enqueues(count: Task[[int], None]) -> None:
    loop = asyncio.get_running_loop()
    said: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _loop, context: said.append(context))
    for _ in range(5):
        enqueues = [asyncio.ensure_future(count.enqueue(number)) for number in range(200)]
        await asyncio.wait(enqueues, return_when=asyncio.FIRST_COMPLETED)
        for enqueue in enqueues:
            enqueue.cancel()
        await asyncio.gather(*enqueues, return_exceptions=True)
    for _ in range(20):
        gc.collect()
        await asyncio.sleep(0.01)
    loop.set_exception_handler(None)
    assert said == []


async def test_a_worker_that_cannot_handle_signals_leaves_nothing_behind(database_url: str) -> None:
    app, count = app_of(database_url)

    async def run(*, handle_signals: bool) -> None:
        worker = app.worker()
        await worker.run(handle_signals=handle_signals, on_started=worker.stop)

    with pytest.raises(InvalidOption, match=r"run\(\) must be called in the main thread .*handle_signals=False"):
        await asyncio.to_thread(asyncio.run, run(handle_signals=True))
    assert [thread for thread in threading.enumerate() if thread.name == "rowlock-lease"] == []
    handle = await count.enqueue(1)
    rows = await app.database.run("list_workers", None)
    assert rows == []
    await asyncio.to_thread(asyncio.run, run(handle_signals=False))
    assert (await app.get(handle.id)).state == "queued", "it was stopped before its first claim"
    await app.close()
