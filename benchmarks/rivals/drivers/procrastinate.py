"""Drives procrastinate."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from procrastinate import App, PsycopgConnector  # type: ignore[import-not-found]  # lives in its own environment

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run


class ProcrastinateDriver:
    """procrastinate over psycopg."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings
        self._tally = Tally("noop")

    def _app(self, connections: int) -> tuple[Any, Any]:
        app = App(connector=PsycopgConnector(conninfo=self._url, min_size=1, max_size=connections))

        async def job(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
            await self._tally.handle(number)

        return app, app.task(name="job")(job)

    async def prepare(self) -> None:
        """Install the schema."""
        app, _ = self._app(1)
        async with app.open_async():
            await app.schema_manager.apply_schema_async()

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own."""
        app, job = self._app(1)
        async with app.open_async():
            yield _Client(job)

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""
        self._tally = tally
        app, _ = self._app(self._settings["connections"])
        async with app.open_async():
            running = asyncio.create_task(
                app.run_worker_async(concurrency=self._settings["concurrency"], install_signal_handlers=False)
            )
            ready()
            await stop.wait()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


class _Client:
    def __init__(self, job: Any) -> None:  # noqa: ANN401  # procrastinate's Task
        self._job = job

    async def one(self, payload: Payload) -> None:
        await self._job.defer_async(**payload)

    async def many(self, payloads: Sequence[Payload]) -> None:
        await self._job.batch_defer_async(*payloads)


if __name__ == "__main__":
    run(ProcrastinateDriver)
