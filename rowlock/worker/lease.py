"""The lease: renewed by a thread with its own connection, so that a handler which blocks the loop keeps its jobs."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import asyncpg
import structlog

from rowlock.errors import RowlockError
from rowlock.queue.connections import ControlConnection
from rowlock.queue.identifiers import uuid7
from rowlock.queue.server_errors import CONNECTION_LOST
from rowlock.worker.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from rowlock.settings import Settings

log = structlog.get_logger("rowlock.worker")

LONGEST_MILLISECONDS: Final = 2**31 - 1
MARGIN: Final = 0.2
"""The share of the lease before whose end a worker that could not renew stops its handlers."""
RETRY_MOST: Final = 1.0
"""The longest pause, in seconds, after which a renewal that failed is tried again."""


class Lease:
    """One worker's hold on its jobs. `on_lost` is called, on the thread, when it has run out or is about to.

    With each renewal goes how late the event loop is, and how much memory the process uses: `loop_delay`, asked on the
    thread, in seconds. `renewals`, `late` and `failed` count the renewals that were made, that came so late that
    another one was due, and that failed; `lost` how often the lease was lost, `connects` how often it has connected.
    """

    def __init__(
        self, settings: Settings, dsn: str, on_lost: Callable[[], None], loop_delay: Callable[[], float] = lambda: 0.0
    ) -> None:
        self._settings = settings
        self._dsn = dsn
        self._on_lost = on_lost
        self._loop_delay = loop_delay
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.renewals = self.late = self.failed = self.lost = self.connects = 0
        self.worker = uuid7()
        self.held_until = 0.0
        """The monotonic time until which the lease is certainly held: what has not begun by then must not begin."""

    async def begin(
        self, connection: ControlConnection, *, queues: Sequence[str], tasks: Sequence[str], concurrency: int
    ) -> None:
        """Register a worker with a new id, and renew its lease from now on."""
        self.worker = uuid7()
        until = time.monotonic() + self._settings.lease.total_seconds()
        await connection.fetch(
            "register_worker",
            self.worker,
            socket.gethostname(),
            os.getpid(),
            version("rowlock"),
            list(queues),
            list(tasks),
            concurrency,
            self._settings.lease,
        )
        self._stopped = threading.Event()
        self.held_until = until
        self._thread = threading.Thread(
            target=self._keep, args=(self.worker, until, self._stopped), name="rowlock-lease", daemon=True
        )
        self._thread.start()

    async def end(self, connection: ControlConnection) -> None:
        """Stop renewing, and let go of whatever is still held."""
        self._stopped.set()
        for _ in range(100):  # not joined in a thread: handlers may have filled all that asyncio has
            if self._thread is None or not self._thread.is_alive():
                break
            await asyncio.sleep(0.02)
        await connection.fetch("end_lease", self.worker)

    def _keep(self, worker: UUID, until: float, stopped: threading.Event) -> None:
        asyncio.run(self._renew_until_stopped(worker, until, stopped))

    async def _renew_until_stopped(self, worker: UUID, until: float, stopped: threading.Event) -> None:
        """Renew again and again. `until` counts from before each renewal was sent: the database's lease ends later.

        A renewal that is not answered may take half of what is left: so another connection is tried before all is lost.
        """
        heartbeat, margin = self._settings.heartbeat.total_seconds(), MARGIN * self._settings.lease.total_seconds()
        connection = ControlConnection(self._settings, self._dsn, purpose="lease")
        connection.on_connect(self._count_connect)
        pause = 0.0  # at once: the connection is there then, before it matters
        try:
            while not await _wait(stopped, pause):
                began = time.monotonic()
                try:
                    async with asyncio.timeout(max((until - margin - began) / 2, margin / 4)):
                        delay = min(int(self._loop_delay() * 1000), LONGEST_MILLISECONDS)
                        memory = resident_bytes()
                        rows = await connection.fetch("renew_lease", worker, self._settings.lease, delay, memory)
                        is_held = bool(rows)
                except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                    self.failed += 1
                    log.warning("lease_not_renewed", worker=str(worker), error=type(error).__name__)
                    left = max(until - margin - time.monotonic(), 0)
                    is_held = left > 0
                    pause = min(RETRY_MOST, heartbeat, left) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
                else:
                    if is_held:
                        self.renewals += 1
                        self.late += began + self._settings.lease.total_seconds() - until > 2 * heartbeat
                        until = began + self._settings.lease.total_seconds()
                        if worker == self.worker:
                            self.held_until = until
                    pause = heartbeat
                if not is_held:
                    self.lost += 1
                    log.error("lease_lost", worker=str(worker))
                    self._on_lost()
                    return
        except BaseException:
            self._on_lost()  # a defect; without renewals the jobs would soon run twice
            raise
        finally:
            await connection.close()

    def _count_connect(self) -> None:
        self.connects += 1


async def _wait(stopped: threading.Event, seconds: float) -> bool:
    """Wait for so long, or until stopped. This loop is the thread's own: blocking it is fine."""
    return stopped.wait(seconds)
