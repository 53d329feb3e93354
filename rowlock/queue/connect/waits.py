"""Wait for jobs to end: one connection of the application listens for all waits, and none while there are no waits.

An application that waits for a job stores that in a small table, and the statement that ends the job notifies only
then. Each wait also polls: a notification is a hint, whose loss costs one poll.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import asyncpg

from rowlock.errors import RowlockError
from rowlock.queue.connect.listening import Ear
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import FINISHED_CHANNEL
from rowlock.queue.jobs.identifiers import uuid7

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rowlock.settings import Settings

LIFETIME: Final = timedelta(minutes=1)
"""How long a stored wait counts without a renewal."""
WRITE_SECONDS: Final = 0.5
"""The longest time that a wait waits to be stored."""
RENEW_SECONDS: Final = 20.0
IDLE_SECONDS: Final = 10.0
"""The connection is closed after this long without a wait."""


class Waits:
    """All waits of one application on one event loop."""

    def __init__(self, settings: Settings, dsn: str) -> None:
        self.loop = asyncio.get_running_loop()
        self._connection = ControlConnection(settings, dsn, purpose="results")
        self._listener = uuid7()
        self._ear = Ear(self._connection, settings.schema, FINISHED_CHANNEL, self._listener)
        self._told: dict[UUID, set[asyncio.Event]] = {}
        self._written: set[UUID] = set()
        self._unwritten: list[asyncio.Future[None]] = []
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncIterator[asyncio.Event | None]:
        """An event that is set when the job may have ended. The caller must check for an end before the block began.

        None if the wait could not be stored in time: then poll.
        """
        told = asyncio.Event()
        self._told.setdefault(job_id, set()).add(told)
        try:
            is_known = job_id in self._written or await self._be_written(job_id)
            yield told if is_known else None
        finally:
            waiting = self._told[job_id]
            waiting.discard(told)
            if not waiting:
                del self._told[job_id]
                self._changed.set()

    async def close(self) -> None:
        """Stop listening. Open waits go on polling."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)

    def cut(self) -> None:
        """Cut the connection of a loop that is closed."""
        self._connection.cut()

    async def _be_written(self, job_id: UUID) -> bool:
        """Wait until the database has stored all waits so far, or cannot. Returns whether it has stored this one."""
        written = self.loop.create_future()
        self._unwritten.append(written)
        self._changed.set()
        if self._keeper is None or self._keeper.done():
            self._keeper = asyncio.create_task(self._keep())
        with suppress(TimeoutError):
            async with asyncio.timeout(WRITE_SECONDS):
                await written
        return job_id in self._written

    async def _keep(self) -> None:
        """Store the waits, all new ones at once; renew them; end after a while without waits."""
        self._connection.on_connect(self._reconnected)
        clock = self.loop.time
        renew_at = clock() + RENEW_SECONDS
        try:
            await self._try_to_listen()
            while True:
                is_idle = not self._told and not self._written
                try:
                    async with asyncio.timeout(
                        IDLE_SECONDS if is_idle else min(renew_at - clock(), self._ear.due_in())
                    ):
                        await self._changed.wait()
                except TimeoutError:
                    if is_idle and not self._told:
                        return
                self._changed.clear()
                if clock() >= renew_at:
                    self._written.clear()  # and write all of it again
                    renew_at = clock() + RENEW_SECONDS
                await self._write()
                await self._test()
        finally:
            if self._keeper is asyncio.current_task():
                self._keeper = None
            self._release(self._unwritten)
            await self._connection.close()

    async def _try_to_listen(self) -> None:
        try:
            await self._connection.listen(self._hear, FINISHED_CHANNEL)
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError):
            return  # the next statement tries again

    async def _write(self) -> None:
        waiting, self._unwritten = self._unwritten, []
        added, removed = set(self._told) - self._written, self._written - set(self._told)
        try:
            if added or removed:
                await self._connection.fetch("change_waiters", self._listener, list(added), LIFETIME, list(removed))
                self._written = (self._written | added) - removed
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError):
            self._written.clear()
        finally:
            self._release(waiting)

    async def _test(self) -> None:
        if not self._written:
            self._ear.postpone()  # no call waits, or the database is away: try again after as long
            return
        try:
            await self._ear.test()
        except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError):
            self._written.clear()

    def _reconnected(self) -> None:
        """Notifications during the outage were lost: make all waits poll."""
        self._written.clear()
        self._ear.begin()
        for waiting in self._told.values():
            for told in waiting:
                told.set()

    def _release(self, waiting: list[asyncio.Future[None]]) -> None:
        for written in waiting:
            if not written.done():
                written.set_result(None)

    def _hear(self, told: str) -> None:
        """Handle a notification: a job, or a test (no job's id has a colon)."""
        self._ear.heard()
        if ":" not in told:
            for waiting in self._told.get(UUID(told), ()):
                waiting.set()


__all__ = ["Waits"]
