"""Drives awa (a Rust core with Python handlers)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

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
        self._url = _with_host(url)
        self._settings = settings

    async def prepare(self) -> None:
        """Migrate, and run a worker once: the first one activates the queue storage that COPY needs."""
        client = AsyncClient(self._url)
        await client.migrate()
        client.task(BenchmarkJob, queue=QUEUE)(_nothing)
        await client.start([(QUEUE, 1)])
        await client.shutdown()
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


async def _nothing(job: object) -> None:
    """A handler, for the worker that `prepare` needs."""


def _with_host(url: str) -> str:
    """The same server, named in front: awa's Rust core does not read `?host=/path/of/a/socket`."""
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    if parts.hostname or "host" not in given:
        return url
    netloc = f"{parts.netloc}{quote(given['host'], safe='')}:{given.get('port', 5432)}"
    return urlunsplit(parts._replace(netloc=netloc, query=""))


class _Client:
    def __init__(self, client: Any) -> None:  # noqa: ANN401  # an AsyncClient
        self._client = client

    async def one(self, payload: Payload) -> None:
        await self._client.insert(BenchmarkJob(**payload), queue=QUEUE)

    async def many(self, payloads: Sequence[Payload]) -> None:
        await self._client.enqueue_many_copy([BenchmarkJob(**payload) for payload in payloads], queue=QUEUE)


if __name__ == "__main__":
    run(AwaDriver)
