"""Drives SAQ on PostgreSQL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from psycopg_pool import AsyncConnectionPool  # type: ignore[import-not-found]  # lives in an environment of its own
from saq import Worker  # type: ignore[import-not-found]  # see above
from saq.queue.postgres import PostgresQueue  # type: ignore[import-not-found]  # see above

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run

ENQUEUED_AT_ONCE = 100


class SaqDriver:
    """SAQ over psycopg."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    @asynccontextmanager
    async def _queue(self, connections: int) -> AsyncIterator[Any]:
        pool = AsyncConnectionPool(
            self._url, min_size=connections, max_size=connections, open=False, kwargs={"autocommit": True}
        )
        queue = PostgresQueue(pool=pool, manage_pool_lifecycle=True, min_size=connections, max_size=connections)
        await queue.connect()
        yield queue
        await queue.disconnect()

    async def prepare(self) -> None:
        """Connect once: that makes the tables."""
        async with self._queue(2):
            pass

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with connections of its own."""
        async with self._queue(2) as queue:
            yield _Client(queue)

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""

        async def job(_context: object, *, number: int, body: str) -> None:  # noqa: ARG001  # carried
            await tally.handle(number)

        async with self._queue(self._settings["connections"]) as queue:
            worker = Worker(
                queue,
                functions=[("job", job)],
                concurrency=self._settings["concurrency"],
                shutdown_grace_period_s=5,
            )
            running = asyncio.create_task(worker.start())
            ready()
            await stop.wait()
            await worker.stop()
            await asyncio.gather(running, return_exceptions=True)


class _Client:
    def __init__(self, queue: Any) -> None:  # noqa: ANN401  # a PostgresQueue
        self._queue = queue

    async def one(self, payload: Payload) -> None:
        await self._queue.enqueue("job", **payload)

    async def many(self, payloads: Sequence[Payload]) -> None:
        """There is no bulk enqueue: many at once, over the connections that there are."""
        limit = asyncio.Semaphore(ENQUEUED_AT_ONCE)

        async def enqueue(payload: Payload) -> None:
            async with limit:
                await self.one(payload)

        await asyncio.gather(*map(enqueue, payloads))


if __name__ == "__main__":
    run(SaqDriver)
