"""Drives RQ on Redis: for orientation, since Redis is not durable as PostgreSQL is.

Its notes on performance measure `SimpleWorker`, which runs jobs in its own process, six times as fast as the default
`Worker`, which forks for each, and name jobs of a few milliseconds as its use. Results are dropped (`result_ttl=0`),
as those of Celery are. One worker is one process that does one job at a time, a plain function. Many jobs are
enqueued by `enqueue_many`, which sends them in one pipeline.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis import Redis  # type: ignore[import-not-found, unused-ignore]  # lives in an environment of its own
from rq import Queue  # type: ignore[import-not-found]  # see above

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run
from benchmarks.rivals.drivers.slots import follow

JOB = "benchmarks.rivals.drivers.rq_job.handle"
QUEUE = "default"


class RqDriver:
    """RQ's own worker program."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url.replace("redis+socket://", "unix://")
        self._settings = settings

    async def prepare(self) -> None:
        """Nothing: Redis makes its lists by itself."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        with Redis.from_url(self._url) as connection:
            yield _Client(Queue(QUEUE, connection=connection), self._settings["result_ttl"])

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""
        await follow(self._worker, tally, ready, stop)

    async def _worker(self, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rq.cli", "worker", "--url", self._url),
            *("--worker-class", self._settings["worker_class"], "--logging_level", "ERROR", QUEUE),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )


class _Client:
    def __init__(self, queue: Any, result_ttl: int) -> None:  # noqa: ANN401  # an RQ Queue
        self._queue = queue
        self._result_ttl = result_ttl

    async def one(self, payload: Payload) -> None:
        self._queue.enqueue(JOB, kwargs=dict(payload), result_ttl=self._result_ttl)

    async def many(self, payloads: Sequence[Payload]) -> None:
        prepare = self._queue.prepare_data
        self._queue.enqueue_many(
            [prepare(JOB, kwargs=dict(payload), result_ttl=self._result_ttl) for payload in payloads]
        )


if __name__ == "__main__":
    run(RqDriver)
