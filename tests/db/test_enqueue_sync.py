"""A synchronous program and the queue: no event loop of its own, and one in the background where it must be."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from rowlock import InsideEventLoop, Rowlock, Settings, Task
from rowlock.queue.read.pages import list_jobs


@pytest.fixture
def app(settings: Settings) -> Iterator[Rowlock]:
    app = Rowlock(settings=settings)
    yield app
    app.close_sync()


@pytest.fixture
def greet(app: Rowlock) -> Task[[str], str]:
    @app.task
    def greet(name: str) -> str:
        return f"Hello, {name}"

    return greet


def background() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "rowlock-background"]


def test_program_without_an_event_loop_enqueues_reads_and_acts(app: Rowlock, greet: Task[[str], str]) -> None:
    job = greet.using(delay=60).enqueue_sync("Ada")
    assert job.get_sync().args == {"name": "Ada"}
    named = app.enqueue_sync("greet", {"name": "Bob"}, delay=60, priority=9)
    [many] = app.enqueue_many_sync([greet.using(delay=60).job("Eve")])
    assert (named.get_sync().priority, many.get_sync().state) == (9, "scheduled")
    app.run_sync(app.jobs.cancel(job.id, by="ada"))
    assert job.get_sync().state == "cancelled"


def test_result_is_waited_for_without_an_event_loop(app: Rowlock, greet: Task[[str], str]) -> None:
    job = greet.enqueue_sync("Ada")

    async def work() -> None:
        async with app.worker():
            await job.result(timeout=30)
        await app.close()

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(asyncio.run, work())
        assert job.result_sync(timeout=30) == "Hello, Ada"
        running.result()


def test_callers_own_connection_needs_neither_loop_nor_thread(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    before = background()
    with psycopg.connect(database_url) as connection:
        job = greet.using(connection=connection).enqueue_sync("Ada")
    assert background() == before
    assert job.get_sync().args == {"name": "Ada"}


async def test_waiting_inside_an_event_loop_is_refused_and_nothing_is_stored(
    app: Rowlock, greet: Task[[str], str]
) -> None:
    job = await greet.enqueue("Ada")
    for call in (
        lambda: greet.enqueue_sync("Bob"),
        job.get_sync,
        job.result_sync,
        lambda: app.run_sync(app.get(job.id)),
    ):
        with pytest.raises(InsideEventLoop, match="Await the asynchronous method"):
            call()
    assert len(await list_jobs(app.database)) == 1
    await app.close()


def test_many_threads_share_one_loop(app: Rowlock, greet: Task[[str], str]) -> None:
    before = len(background())
    with ThreadPoolExecutor(8) as threads:
        jobs = list(threads.map(greet.enqueue_sync, map(str, range(40))))
    assert len(background()) == before + 1
    assert len({job.id for job in jobs}) == 40
    assert len(app.run_sync(list_jobs(app.database))) == 40


def test_application_that_was_closed_opens_again(app: Rowlock, greet: Task[[str], str]) -> None:
    before = background()
    job = greet.enqueue_sync("Ada")
    app.close_sync()
    assert background() == before
    app.close_sync()
    assert job.get_sync().args == {"name": "Ada"}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # of a process with threads: it is what is tried
def test_forked_process_begins_anew_and_leaves_its_parents_connections_alone(
    app: Rowlock, greet: Task[[str], str]
) -> None:
    parents = greet.enqueue_sync("parent")
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # a child that hangs would stay behind
        try:
            parents.get_sync()
            os.write(writes, str(greet.enqueue_sync("child").id).encode())
            app.close_sync()
        finally:
            os._exit(0)
    os.close(writes)
    with os.fdopen(reads, encoding="ascii") as told:
        stored = told.read()
    assert os.waitpid(child, 0)[1] == 0
    assert app.run_sync(app.get(stored)).args == {"name": "child"}
    assert parents.get_sync().args == {"name": "parent"}
