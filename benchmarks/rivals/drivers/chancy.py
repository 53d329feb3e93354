"""Drives chancy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chancy import Chancy, Queue, Worker, job  # type: ignore[import-not-found]  # lives in its own environment

from benchmarks.rivals.drivers import chancy_job
from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run


class ChancyDriver:
    """chancy with its asyncio executor."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    async def prepare(self) -> None:
        """Migrate, and declare the queue."""
        async with Chancy(self._url) as chancy:
            await chancy.migrate()
            await chancy.declare(
                Queue(
                    name="default",
                    concurrency=self._settings["concurrency"],
                    executor=Chancy.Executor.Async,
                    polling_interval=self._settings["polling_interval"],
                    eager_polling=self._settings["eager_polling"],
                )
            )

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        async with Chancy(self._url, max_connection_pool_size=1) as chancy:
            yield _Client(chancy)

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""
        chancy_job.tally = tally
        async with Chancy(self._url) as chancy:
            worker = Worker(chancy, register_signal_handlers=False)
            worker.send_outgoing_interval = self._settings["send_outgoing_interval"]
            async with worker:
                ready()
                await stop.wait()


class _Client:
    def __init__(self, chancy: Any) -> None:  # noqa: ANN401  # a Chancy
        self._chancy = chancy
        self._job = job(queue="default")(chancy_job.handle).job

    async def one(self, payload: Payload) -> None:
        await self._chancy.push(self._job.with_kwargs(**payload))

    async def many(self, payloads: Sequence[Payload]) -> None:
        jobs = [self._job.with_kwargs(**payload) for payload in payloads]
        async for _ in self._chancy.push_many(jobs, batch_size=len(jobs)):
            pass


if __name__ == "__main__":
    run(ChancyDriver)
