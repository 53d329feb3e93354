"""Server-sent events: one poller serves all open streams of a process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final
from uuid import UUID

import asyncpg
import msgspec
from aiohttp import web

from rowlock import logs
from rowlock.errors import JobNotFound, RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST, message
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.overview import Overview
from rowlock.wire.jobs import JobDetail

log = logs.get_logger("rowlock.api")

EVERY: Final = 2.0
PAUSE_MOST: Final = 10.0
MOST_STREAMS: Final = 200
MOST_OF_ONE: Final = 50
"""The most streams of one key, with its sessions; without authentication only `MOST_STREAMS` applies."""
MOST_UNSENT: Final = 64
"""The most events that may wait for one client: a slower reader is disconnected."""
LOOKED_AT: Final = 50
"""How many of the last operations each poll reads."""

Overviews = Callable[[frozenset[str] | None], Awaitable[Overview]]
Operations = Callable[[int], Awaitable[list[Operation]]]
Details = Callable[[UUID], Awaitable[JobDetail]]


class Stream:
    """The unsent events of one client.

    `queues`: those that it sees, or None for all; `job`: the job that it watches; `by`: the client's name, None if
    anonymous; `is_gone` returns whether the connection has ended.
    """

    def __init__(
        self,
        queues: frozenset[str] | None,
        job: UUID | None,
        *,
        by: str | None = None,
        is_gone: Callable[[], bool] = lambda: False,
    ) -> None:
        self.queues = queues
        self.job = job
        self.by = by
        self.is_gone = is_gone
        self.is_over = False
        self.is_behind = False
        self.operations: set[UUID] | None = None
        """The operations already seen; None before the first poll."""
        self._unsent: deque[bytes] = deque()
        self._told: dict[str, bytes] = {}
        self._news = asyncio.Event()

    def tell(self, event: str, document: bytes, *, unless_same_as: bytes | None = None) -> None:
        """Queue an event; with `unless_same_as`, only if that differs from the value of this event's last `tell`."""
        if self.is_over or (unless_same_as is not None and self._told.get(event) == unless_same_as):
            return
        if unless_same_as is not None:
            self._told[event] = unless_same_as
        self._unsent.append(b"event: %b\ndata: %b\n\n" % (event.encode(), document))
        if len(self._unsent) > MOST_UNSENT:
            self.is_behind = True
            self.end()
        self._news.set()

    def end(self) -> None:
        """End the stream now, and drop its unsent events."""
        self.is_over = True
        self._news.set()

    async def next(self, seconds: float) -> bytes:
        """Wait for the next events to send; empty after so many seconds, or once the stream is over."""
        if not self._unsent and not self.is_over:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._news.wait()
        self._news.clear()
        unsent = b"".join(self._unsent)
        self._unsent.clear()
        return b"" if self.is_over else unsent


class Streams:
    """All streams of one process."""

    def __init__(self, *, overview: Overviews, operations: Operations, detail: Details) -> None:
        self._overview = overview
        self._operations = operations
        self._detail = detail
        self._streams: set[Stream] = set()
        self._poller: asyncio.Task[None] | None = None
        self._look = asyncio.Event()
        self._is_closed = False

    def room_for(self, by: str | None) -> int:
        """How many more streams this client may open. Streams of disconnected clients end first."""
        for stream in [stream for stream in self._streams if stream.is_gone()]:
            stream.end()
            self._streams.discard(stream)
        room = MOST_STREAMS - len(self._streams)
        if by is not None:
            room = min(room, MOST_OF_ONE - sum(stream.by == by for stream in self._streams))
        return room

    def add(self, stream: Stream) -> None:
        """Add a stream to the poller, which polls at once."""
        if self._is_closed:
            stream.end()
            return
        self._streams.add(stream)
        self._look.set()
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())

    async def remove(self, stream: Stream) -> None:
        """Remove a stream; without streams, the poller ends."""
        self._streams.discard(stream)
        if not self._streams:
            await self._stop()

    async def close(self) -> None:
        """End all streams now."""
        self._is_closed = True
        for stream in self._streams:
            stream.end()
        await self._stop()

    async def _stop(self) -> None:
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            with suppress(asyncio.CancelledError):
                await poller

    async def _poll(self) -> None:
        pause = EVERY
        while True:
            self._look.clear()
            try:
                await self._look_once()
                pause = EVERY
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                log.warning("events_not_read", error=type(error).__name__, detail=message(error))
                pause = min(2 * pause, PAUSE_MOST)
            except Exception as error:  # without a poller all streams would stay silent
                log.exception("events_not_read", error=type(error).__name__)
                pause = min(2 * pause, PAUSE_MOST)
            await asyncio.sleep(min(pause, 0.1))  # streams that open together share a poll
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._look.wait()

    async def _look_once(self) -> None:
        """Send every stream its changes.

        Operations come first: a client that has received an overview receives every later operation.
        """
        if any(stream.queues is None for stream in self._streams):
            await self._tell_operations()
        for queues in {stream.queues for stream in self._streams}:
            overview = await self._overview(queues)
            document = msgspec.json.encode(overview)
            what = msgspec.json.encode(msgspec.structs.replace(overview, at=overview.at.min))
            for stream in [stream for stream in self._streams if stream.queues == queues]:
                if queues is not None or stream.operations is not None:  # else it is new: the next poll serves it
                    stream.tell("overview", document, unless_same_as=what)
        for job in {stream.job for stream in self._streams if stream.job is not None}:
            await self._tell_job(job)

    async def _tell_operations(self) -> None:
        """Send new operations to the streams that see all queues."""
        last = await self._operations(LOOKED_AT)
        ids = {operation.id for operation in last}
        for stream in [stream for stream in self._streams if stream.queues is None]:
            known, stream.operations = stream.operations, ids
            for operation in reversed(last):
                if known is not None and operation.id not in known:
                    stream.tell("operation", msgspec.json.encode(operation))

    async def _tell_job(self, job: UUID) -> None:
        """Send the job to the streams that watch it; end a stream that can no longer see it.

        Retention may have removed the job, or an operator may have moved it to a queue that the stream does not see.
        """
        try:
            detail = await self._detail(job)
        except JobNotFound:
            detail = None
        document = b"" if detail is None else msgspec.json.encode(detail)
        for stream in [stream for stream in self._streams if stream.job == job]:
            if detail is not None and (stream.queues is None or detail.queue in stream.queues):
                stream.tell("job", document, unless_same_as=document)
            else:
                stream.end()


STREAMS: web.AppKey[Streams] = web.AppKey("streams")
