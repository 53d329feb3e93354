"""Drives pgqueuer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import asyncpg
from pgqueuer import PgQueuer  # type: ignore[import-not-found]  # lives in an environment of its own
from pgqueuer.db import AsyncpgDriver  # type: ignore[import-not-found]  # see above
from pgqueuer.queries import Queries  # type: ignore[import-not-found]  # see above

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run


class PgQueuerDriver:
    """pgqueuer over asyncpg, with several dequeuers in one process, as its own benchmark runs it."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    async def prepare(self) -> None:
        """Install the tables (durable: all of them logged)."""
        connection = await asyncpg.connect(self._url)
        await Queries(AsyncpgDriver(connection)).install()
        await connection.close()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        connection = await asyncpg.connect(self._url)
        yield _Client(Queries(AsyncpgDriver(connection)))
        await connection.close()

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run its dequeuers, each with a connection of its own."""
        carries_number = tally.mode == "stamp"

        async def job(job: Any) -> None:  # noqa: ANN401  # pgqueuer's Job
            await tally.handle(json.loads(job.payload)["number"] if carries_number else 0)

        async with AsyncExitStack() as stack:
            dequeuers = []
            for _ in range(self._settings["dequeuers"]):
                connection = await asyncpg.connect(self._url)
                stack.push_async_callback(connection.close)
                dequeuer = PgQueuer(AsyncpgDriver(connection))
                dequeuer.entrypoint("job")(job)
                dequeuers.append(dequeuer)
            running = [
                asyncio.create_task(dequeuer.qm.run(batch_size=self._settings["batch_size"])) for dequeuer in dequeuers
            ]
            ready()
            await stop.wait()
            for dequeuer in dequeuers:
                dequeuer.shutdown.set()
            await asyncio.gather(*running)


class _Client:
    def __init__(self, queries: Any) -> None:  # noqa: ANN401  # pgqueuer's Queries
        self._queries = queries

    async def one(self, payload: Payload) -> None:
        await self._queries.enqueue("job", json.dumps(payload).encode())

    async def many(self, payloads: Sequence[Payload]) -> None:
        count = len(payloads)
        await self._queries.enqueue(["job"] * count, [json.dumps(p).encode() for p in payloads], [0] * count)


if __name__ == "__main__":
    run(PgQueuerDriver)
