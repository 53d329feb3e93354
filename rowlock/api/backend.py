"""What the HTTP API needs of the application it serves, and where the handlers find it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

from aiohttp import web

from rowlock.queue.connect.database import Database
from rowlock.queue.connect.drivers import Own
from rowlock.queue.jobs.unique import Unique
from rowlock.queue.operate.jobs import Operators
from rowlock.queue.operate.keys import Keys
from rowlock.queue.operate.queues import Queues
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.operate.workers import Workers
from rowlock.queue.read.handle import JobHandle


class Backend(Protocol):
    """The part of `rowlock.Rowlock` that the API uses."""

    @property
    def database(self) -> Database:
        """The queue, to read from."""
        ...

    @property
    def operators(self) -> Operators:
        """The acts on jobs that are there."""
        ...

    @property
    def schedules(self) -> Schedules:
        """The schedules, as rows."""
        ...

    @property
    def keys(self) -> Keys:
        """The keys of the API itself."""
        ...

    @property
    def queues(self) -> Queues:
        """The queues."""
        ...

    @property
    def workers(self) -> Workers:
        """The live workers."""
        ...

    async def queue_of(self, task: str, *, connection: object = Own.TRANSACTION) -> str:
        """The queue that a task's jobs go to unless told otherwise. Raises `UnknownTask`."""
        ...

    async def enqueue(
        self,
        task: str,
        args: Mapping[str, object] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        delay: timedelta | float | None = None,
        run_at: datetime | None = None,
        max_attempts: int | None = None,
        timeout: timedelta | float | None = None,
        expires: timedelta | float | datetime | None = None,
        deadline: timedelta | float | datetime | None = None,
        unique: Unique | str | None = None,
        args_version: int | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, str] | None = None,
        trace: str | None = None,
        connection: object = Own.TRANSACTION,
    ) -> JobHandle[Any]:
        """Enqueue a job by its task's name. Raises `InvalidJob` and its kinds, and `DuplicateJob`."""
        ...


BACKEND: web.AppKey[Backend] = web.AppKey("backend")
CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing")
"""Set when the server begins to stop: whoever waits for a job then answers at once."""
