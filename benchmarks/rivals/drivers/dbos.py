"""Drives DBOS: a job is a workflow without steps, enqueued by a `DBOSClient`.

Workflows are async: those run on the event loop on which it is launched, others each on a thread. Each worker has an
`executor_id` of its own, as its documentation asks. Queues are polled, and a poll takes no more than
`worker_concurrency` has room for, so this and `polling_interval_sec` bound how many start in a second. There is no bulk
enqueue of workflows: `enqueue_in_transaction` for each, all in one transaction, saves the commits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import sqlalchemy
from dbos import DBOS, DBOSClient  # type: ignore[import-not-found]  # lives in an environment of its own

from benchmarks.rivals.drivers.protocol import Payload, Producer, Tally, run

NAME = "benchmark"
QUEUE = "job"
OPTIONS = {"workflow_name": "job", "queue_name": QUEUE}
END_SECONDS = 10


class DbosDriver:
    """DBOS over psycopg."""

    def __init__(self, url: str, settings: Mapping[str, Any]) -> None:
        self._url = url
        self._settings = settings

    async def prepare(self) -> None:
        """Launch it once, which migrates, and register the queue."""
        async with self._launched():
            await DBOS.register_queue_async(QUEUE, **self._settings["queue"])

    @asynccontextmanager
    async def producer(self) -> AsyncIterator[Producer]:
        """A client with a connection of its own, and another one for transactions."""
        client = DBOSClient(system_database_url=self._url, system_database_pool_size=1, application_name=NAME)
        engine = sqlalchemy.create_engine(sqlalchemy.make_url(self._url).set(drivername="postgresql+psycopg"))
        yield _Client(client, engine)
        engine.dispose()
        client.destroy()

    async def work(self, tally: Tally, ready: Callable[[], None], stop: asyncio.Event) -> None:
        """Run one worker."""

        async def job(number: int, body: str) -> None:  # noqa: ARG001  # the arguments are there to be carried
            await tally.handle(number)

        DBOS.workflow(name="job")(job)
        async with self._launched():
            ready()
            await stop.wait()

    @asynccontextmanager
    async def _launched(self) -> AsyncIterator[None]:
        """Run it for the time of the block: on this event loop, since it is launched there."""
        DBOS(
            config={
                "name": NAME,
                "system_database_url": self._url,
                "application_version": "1",
                "executor_id": str(uuid4()),
                "sys_db_pool_size": self._settings["connections"],
                "log_level": "ERROR",
            }
        )
        DBOS.launch()
        yield
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=END_SECONDS)


class _Client:
    def __init__(self, client: Any, engine: sqlalchemy.Engine) -> None:  # noqa: ANN401  # a DBOSClient
        self._client = client
        self._engine = engine

    async def one(self, payload: Payload) -> None:
        await self._client.enqueue_async(OPTIONS, payload["number"], payload["body"])

    async def many(self, payloads: Sequence[Payload]) -> None:
        await asyncio.to_thread(self._many, payloads)

    def _many(self, payloads: Sequence[Payload]) -> None:
        with self._engine.begin() as connection:
            for payload in payloads:
                self._client.enqueue_in_transaction(connection, OPTIONS, payload["number"], payload["body"])


if __name__ == "__main__":
    run(DbosDriver)
