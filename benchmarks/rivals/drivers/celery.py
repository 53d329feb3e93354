"""Drives Celery on Redis: for orientation, since Redis is not durable as PostgreSQL is."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run
from benchmarks.rivals.drivers.slots import follow


class CeleryDriver:
    """Celery's prefork pool, which runs plain functions."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        os.environ["BENCHMARK_BROKER"] = url
        os.environ["BENCHMARK_PREFETCH"] = str(settings["prefetch"])
        self._settings = settings

    async def prepare(self) -> None:
        """Nothing: the broker makes its lists by itself."""

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        from benchmarks.rivals.drivers import celery_job  # noqa: PLC0415  # reads the environment

        with celery_job.app.connection_for_write() as connection, connection.Producer() as producer:
            yield _Client(celery_job.job, producer)

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker with its pool."""
        await follow(self._worker, tally, ready, stop)

    async def _worker(self, environment: Mapping[str, str]) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "celery", "-A", "benchmarks.rivals.drivers.celery_job", "worker"),
            *("--pool=prefork", f"--concurrency={self._settings['concurrency']}", "--loglevel=ERROR"),
            *("--without-gossip", "--without-mingle", "--without-heartbeat"),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
        )


class _Client:
    def __init__(self, job: Any, producer: Any) -> None:  # noqa: ANN401  # Celery's task and kombu's producer
        self._job = job
        self._producer = producer

    async def one(self, payload: Payload) -> None:
        self._job.apply_async(kwargs=dict(payload), producer=self._producer)

    async def many(self, payloads: Sequence[Payload]) -> None:
        """There is no bulk enqueue: one by one, on one connection."""
        for payload in payloads:
            await self.one(payload)


if __name__ == "__main__":
    run(CeleryDriver)
