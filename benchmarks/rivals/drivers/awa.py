"""Drives awa (a Rust core with Python handlers)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from awa import AsyncClient  # type: ignore[import-not-found]  # lives in an environment of its own

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run

QUEUE = "default"


@dataclass
class BenchmarkJob:
    """The arguments."""

    number: int
    body: str


class AwaDriver:
    """awa with async handlers."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    async def prepare(self) -> None:
        """Migrate."""
        client = AsyncClient(self._url)
        await client.migrate()
        await client.close()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        client = AsyncClient(self._url, max_connections=1)
        yield _Client(client)
        await client.close()

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""
        client = AsyncClient(self._url, max_connections=self._settings["connections"])

        async def handle(job: Any) -> None:  # noqa: ANN401  # awa's Job
            await tally.handle(job.args.number)

        client.task(BenchmarkJob, queue=QUEUE)(handle)
        await client.start([(QUEUE, self._settings["workers"])])
        ready()
        await stop.wait()
        await client.shutdown(timeout_ms=10_000)
        await client.close()


class _Client:
    def __init__(self, client: Any) -> None:  # noqa: ANN401  # an AsyncClient
        self._client = client

    async def one(self, payload: Payload) -> None:
        await self._client.insert(BenchmarkJob(**payload), queue=QUEUE)

    async def many(self, payloads: Sequence[Payload]) -> None:
        await self._client.enqueue_many_copy([BenchmarkJob(**payload) for payload in payloads], queue=QUEUE)


if __name__ == "__main__":
    run(AwaDriver)
