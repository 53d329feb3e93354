"""A worker's close that is cancelled, wherever it waits, leaves no lease, no task, no handler and no session behind."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from types import coroutine
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.worker import timeouts
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.needs_session("it counts the sessions of the server")

IS_GONE = """
    SELECT count(*) = 0
      FROM pg_stat_activity
     WHERE datname = current_database()
       AND application_name ~ '^rowlock (attention|claim|finish|handlers|lease|upkeep)$'
"""
LEASES = "SELECT count(*) FROM rowlock.worker WHERE expires_at > clock_timestamp()"


class Interruption:
    """Cancels the task that awaits `over(…)`, at its await of this number; or at each from there on."""

    def __init__(self, number: int, *, is_repeated: bool) -> None:
        self._number = number
        self._is_repeated = is_repeated
        self.is_reached = False

    @coroutine
    def over(self, inner: Coroutine[Any, Any, object]) -> Generator[Any, Any, None]:
        """Await the coroutine."""
        thrown: BaseException | None = None
        for number in count(1):
            try:
                awaited = inner.send(None) if thrown is None else inner.throw(thrown)
            except StopIteration:
                return
            thrown = None
            if number == self._number or (self._is_repeated and number > self._number):
                self.is_reached = True
                task = asyncio.current_task()
                assert task is not None
                asyncio.get_running_loop().call_soon(task.cancel)
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001  # the coroutine's to handle
                thrown = error


class Stage:
    """An application with one handler that runs until it is stopped, and a lifespan that it uses."""

    def __init__(self, app: Rowlock, connection: Connection) -> None:
        self._app = app
        self._connection = connection
        self.began = asyncio.Event()
        self.seen: list[str] = []

        @app.lifespan
        async def pool() -> AsyncIterator[None]:
            yield
            self.seen.append("lifespan closed")

        @app.task
        async def hang() -> None:
            self.began.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.seen.append("handler stopped")

        self.hang = hang

    async def close(self, interruption: Interruption) -> None:
        """Start a worker, and let its close be interrupted while a handler runs."""
        self.began.clear()
        self.seen.clear()
        await self._connection.execute("DELETE FROM rowlock.job; DELETE FROM rowlock.worker")
        before = asyncio.all_tasks()
        worker = self._app.worker()
        await worker.__aenter__()
        await self.hang.enqueue()
        await asyncio.wait_for(self.began.wait(), 30)
        worker.stop(0.15)
        with suppress(asyncio.CancelledError):
            await asyncio.create_task(_awaited(interruption.over(worker.__aexit__(None, None, None))))
        await eventually(lambda: self.seen == ["handler stopped", "lifespan closed"])
        await eventually(lambda: not any(thread.name == "rowlock-lease" for thread in threading.enumerate()))
        await eventually(lambda: not asyncio.all_tasks() - before)
        assert not worker.is_leased
        await eventually(lambda: self._connection.fetchval(IS_GONE))


async def _awaited(awaitable: Any) -> None:  # noqa: ANN401  # a generator-based coroutine
    await awaitable


@pytest.fixture
async def stage(settings: Settings, connection: Connection) -> AsyncIterator[Stage]:
    brief = replace(settings, lease=timedelta(seconds=5), heartbeat=timedelta(seconds=0.5))
    async with Rowlock(settings=brief) as app:
        yield Stage(app, connection)


@pytest.mark.timeout(300)
async def test_a_close_that_is_cancelled_again_and_again_stops_the_lease_and_gives_the_job_back(
    stage: Stage, connection: Connection
) -> None:
    for number in count(1):
        await stage.close(interruption := Interruption(number, is_repeated=True))
        assert await connection.fetchval(LEASES) == 0
        state = await connection.fetchrow("SELECT state, attempt, crashes, errors FROM rowlock.job")
        assert tuple(state or ()) == ("queued", 1, 0, 0)
        if not interruption.is_reached:
            break


@pytest.mark.timeout(300)
async def test_the_end_of_a_close_stops_everything_although_its_own_task_is_cancelled(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_the_end = timeouts.to_the_end  # a loop that ends cancels all tasks, also the one that nobody else can cancel
    for number in count(1):
        interruption = Interruption(number, is_repeated=False)
        monkeypatch.setattr(
            "rowlock.worker.shift.to_the_end",
            lambda end, interruption=interruption: to_the_end(_awaited(interruption.over(end))),
        )
        await stage.close(Interruption(0, is_repeated=False))
        if not interruption.is_reached:
            break
