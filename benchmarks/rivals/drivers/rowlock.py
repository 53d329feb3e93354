"""Drives Rowlock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import asyncpg
import structlog

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run
from rowlock import Rowlock, Settings
from rowlock.migrations import upgrade
from rowlock.worker.process import settle_in

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))


class RowlockDriver:
    """Rowlock, with the settings that its own documentation gives to short jobs."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings
        self._app = Rowlock(settings=replace(Settings(), database_url=url))
        self._tally = Tally("noop")

        @self._app.task
        async def job(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
            await self._tally.handle(number)

        self._job = job

    async def prepare(self) -> None:
        """Migrate."""
        await asyncio.to_thread(upgrade, self._app.settings)

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own: `through: pool` takes it from Rowlock's pool for each job instead."""
        connection = None if self._settings["through"] == "pool" else await asyncpg.connect(self._url)
        try:
            yield _Client(self._app, self._job, connection)
        finally:
            if connection is not None:
                await connection.close()
            await self._app.close()

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""
        self._tally = tally
        settle_in()
        async with self._app.worker(concurrency=self._settings["concurrency"]):
            ready()
            await stop.wait()
        await self._app.close()


class _Client:
    def __init__(self, app: Rowlock, job: Any, connection: asyncpg.Connection[asyncpg.Record] | None) -> None:  # noqa: ANN401  # a task
        self._app = app
        self._job = job
        self._single = job if connection is None else job.using(connection=connection)

    async def one(self, payload: Payload) -> None:
        await self._single.enqueue(payload["number"], payload["body"])

    async def many(self, payloads: Sequence[Payload]) -> None:
        job = self._job.job
        await self._app.enqueue_many(job(payload["number"], payload["body"]) for payload in payloads)


if __name__ == "__main__":
    run(RowlockDriver)
