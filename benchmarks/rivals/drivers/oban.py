"""Drives Oban for Python."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from oban import Oban, worker  # type: ignore[import-not-found]  # lives in an environment of its own
from oban.schema import install  # type: ignore[import-not-found]  # see above

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run


class ObanDriver:
    """Oban over psycopg."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    async def prepare(self) -> None:
        """Install the schema."""
        pool = await Oban.create_pool(self._url, min_size=1, max_size=1)
        await install(pool)
        await pool.close()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        pool = await Oban.create_pool(self._url, min_size=1, max_size=1)
        client = Oban(pool=pool)
        yield _Client(client, _job(Tally("noop")))
        await pool.close()

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one queue."""
        _job(tally)
        size = self._settings["connections"]
        pool = await Oban.create_pool(self._url, min_size=size, max_size=size)
        async with Oban(pool=pool, queues={"default": {"limit": self._settings["limit"]}}):
            ready()
            await stop.wait()
        await pool.close()


def _job(tally: Tally) -> Any:  # noqa: ANN401  # a worker class of Oban's
    async def process(_self: object, job: Any) -> None:  # noqa: ANN401  # Oban's Job
        await tally.handle(job.args["number"])

    return worker(queue="default")(type("BenchmarkJob", (), {"process": process}))


class _Client:
    def __init__(self, client: Any, job: Any) -> None:  # noqa: ANN401  # an Oban and a worker class
        self._client = client
        self._job = job

    async def one(self, payload: Payload) -> None:
        await self._client.enqueue(self._job.new(payload))

    async def many(self, payloads: Sequence[Payload]) -> None:
        await self._client.enqueue_many([self._job.new(payload) for payload in payloads])


if __name__ == "__main__":
    run(ObanDriver)
