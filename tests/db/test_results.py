"""What became of a job: reading it, and its result."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from rowlock import JobFailed, JobNotFound, ResultTimeout, Rowlock, Settings
from rowlock.queue.read.pages import list_jobs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@dataclass
class Report:
    pages: int
    made_on: datetime


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_get_reads_a_job_alive_and_finished(app: Rowlock, connection: Connection) -> None:
    @app.task(queue="email", priority=7)
    async def send(to: str) -> dict[str, str]:
        return {"sent": to}

    handle = await send.enqueue("ada")
    alive = await app.get(handle.id)
    assert (alive.state, alive.is_finished, alive.args, alive.result) == ("queued", False, {"to": "ada"}, None)
    await app.worker().drain()
    finished = await app.get(str(handle.id))
    assert (finished.state, finished.is_finished, finished.attempt) == ("succeeded", True, 1)
    assert (finished.args, finished.result) == ({"to": "ada"}, {"sent": "ada"})
    assert (finished.queue, finished.priority, finished.created_at) == ("email", 7, alive.created_at)
    assert finished.started_at is not None
    assert finished.finished_at is not None
    assert alive.created_at <= finished.started_at <= finished.finished_at


async def test_get_says_that_there_is_no_such_job(app: Rowlock) -> None:
    for unknown in (uuid4(), str(uuid4()), "42", "", "x" * 1000, "\0"):
        with pytest.raises(JobNotFound, match="There is no job"):
            await app.get(unknown)


async def test_a_result_is_of_the_annotated_type(app: Rowlock) -> None:
    @app.task
    async def report(pages: int) -> Report:
        return Report(pages, datetime(2030, 1, 2, tzinfo=UTC))

    @app.task
    async def nothing() -> int | None:
        return None

    made, none = await report.enqueue(3), await nothing.enqueue()
    await app.worker().drain()
    assert await made.result(timeout=5) == Report(3, datetime(2030, 1, 2, tzinfo=UTC))
    assert await none.result(timeout=5) is None
    assert await app.handle(await app.get(made.id)).result() == Report(3, datetime(2030, 1, 2, tzinfo=UTC))


async def test_the_result_of_a_failed_job_raises_its_failure(app: Rowlock) -> None:
    @app.task(max_attempts=1)
    async def broken() -> None:
        raise ValueError("no such shelf")

    handle = await broken.enqueue()
    await app.worker().drain()
    with pytest.raises(JobFailed, match="has failed: ValueError: no such shelf") as failed:
        await handle.result(timeout=5)
    assert (failed.value.state, failed.value.error) == ("failed", "ValueError: no such shelf")


async def test_waiting_for_a_result_ends_at_its_timeout_and_the_job_goes_on(app: Rowlock) -> None:
    @app.task
    async def slow() -> int:
        return 1

    handle = await slow.enqueue()
    timeouts: list[float | timedelta] = [0, 0.05, timedelta(milliseconds=50)]
    for timeout in timeouts:
        with pytest.raises(ResultTimeout, match="still queued"):
            await handle.result(timeout=timeout)
    await app.worker().drain()
    assert await handle.result(timeout=0) == 1


async def test_a_result_is_waited_for_while_the_job_runs(app: Rowlock) -> None:
    go = asyncio.Event()

    @app.task
    async def slow() -> int:
        await go.wait()
        return 7

    async with app.worker():
        handle = await slow.enqueue()
        waiting = asyncio.create_task(handle.result())

        async def is_running() -> bool:
            return (await handle.get()).state == "running"

        await eventually(is_running)
        assert not waiting.done()
        go.set()
        assert await asyncio.wait_for(waiting, 5) == 7


async def test_the_result_of_a_job_whose_transaction_was_rolled_back_is_not_waited_for(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    transaction = connection.transaction()
    await transaction.start()
    handle = await send.using(connection=connection).enqueue()
    await transaction.rollback()
    with pytest.raises(JobNotFound, match="never committed"):
        await handle.result()


async def test_a_number_longer_than_python_reads_spoils_neither_the_list_nor_the_worker(
    app: Rowlock, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    @app.task(max_attempts=1)
    async def count(n: int) -> None: ...

    digits = "9" * 5000
    job_id = await connection.fetchval(
        "SELECT rowlock.enqueue('count', $1::text::jsonb, max_attempts => 1)", f'{{"n": {digits}}}'
    )
    assert (await app.get(job_id)).args == {"n": digits}
    assert [job.id for job in await list_jobs(app.database)] == [job_id]
    await app.worker().drain()
    assert (await app.get(job_id)).state == "failed"
