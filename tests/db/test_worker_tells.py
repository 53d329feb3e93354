"""What a worker says by itself: which queue may be misspelled, what it waits for, why a job is tried again."""

from __future__ import annotations

import asyncio

import pytest

from rowlock import Cancel, Job, Retry, Rowlock
from rowlock.queue.read.reader import list_attempts
from tests.logged import capture_logs
from tests.waiting import eventually


async def test_a_queue_that_no_task_names_is_told_with_the_one_that_may_be_meant(database_url: str) -> None:
    async with Rowlock(database_url) as app:

        @app.task(queue="email")
        async def send() -> None: ...

        with capture_logs() as lines:
            await app.worker(queues=["emial", "tenant-*", "default"]).drain()
        (told,) = [line for line in lines if line["event"] == "queue_is_of_no_task"]
        assert (told["queue"], told["meant"], told["log_level"]) == ("emial", "email", "warning")


async def test_a_worker_that_stops_says_what_it_waits_for(database_url: str) -> None:
    began, ending = asyncio.Event(), asyncio.Event()
    async with Rowlock(database_url) as app:

        @app.task
        async def hold() -> None:
            began.set()
            await ending.wait()

        await hold.enqueue()
        worker = app.worker()
        with capture_logs() as lines:
            running = asyncio.create_task(worker.run(handle_signals=False))
            await asyncio.wait_for(began.wait(), 30)
            worker.stop(30)
            told = await eventually(lambda: [line for line in lines if line["event"] == "worker_stopping"], 30.0)
            ending.set()
            await running
    assert (told[0]["waits_for"], told[0]["seconds"]) == ({"hold": 1}, 30.0)


@pytest.mark.parametrize("executor", ["loop", "thread", "process"])
async def test_a_retry_that_is_raised_from_an_error_tells_of_the_error(executor: str, database_url: str) -> None:
    async with Rowlock(database_url) as app:
        if executor == "loop":

            @app.task(name="work")
            async def work() -> None:
                fail()
        else:
            app.task(name="work", executor=executor)(fail)  # type: ignore[call-overload]  # one of the literals
        job = await app.enqueue("work")
        await app.worker().drain()
        (attempt,) = await list_attempts(app.database, job.id)
        assert attempt["message"] == "ValueError: invalid literal for int() with base 10: 'no money'"
        assert 'int("no money")' in attempt["traceback"]


async def test_a_cancel_that_is_raised_from_an_error_tells_of_it_too(database_url: str) -> None:
    async with Rowlock(database_url) as app:

        @app.task
        async def work(job: Job) -> None:
            try:
                dict[int, int]()[job.attempt]
            except KeyError as error:
                raise Cancel("it is late") from error

        job = await work.enqueue()
        await app.worker().drain()
        assert (await app.get(job.id)).error == "Cancel: it is late", "a reason of its own goes first"


async def test_a_handle_of_an_id_alone_waits_for_the_result(database_url: str) -> None:
    async with Rowlock(database_url) as app:

        @app.task
        async def work() -> int:
            return 7

        job = await work.enqueue()
        await app.worker().drain()
        assert await app.handle(str(job.id)).result(timeout=30) == 7


def fail() -> None:
    try:
        int("no money")
    except ValueError as error:
        raise Retry(60) from error
