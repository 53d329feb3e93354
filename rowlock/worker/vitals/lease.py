"""The lease: a thread with its own connection renews it, so that a handler which blocks the loop keeps its jobs."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import threading
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs, steady
from rowlock.errors import RowlockError
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.vitals.memory import resident_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from rowlock.settings import Settings

log = logs.get_logger("rowlock.worker")

LONGEST_MILLISECONDS: Final = 2**31 - 1
END_SECONDS: Final = 2.0
"""How long a shift that did not open may take to end its lease in the database."""
LOOK_EVERY: Final = 0.1
"""How often a registration looks whether the worker was asked to stop, in seconds."""
MARGIN: Final = 0.2
"""The last share of the lease. A worker that could not renew before this share begins stops its handlers."""
RETRY_MOST: Final = 1.0
"""The longest pause, in seconds, before a failed renewal is retried."""


@dataclass(slots=True, kw_only=True)
class Renewals:
    """Counts of the leases of one worker. Each thread that renews a lease adds to them.

    `made` counts renewals that the database confirmed, `late` those of them that came after the next one was due, and
    `failed` those that failed. `lost` counts lost leases, `connects` the connects of the renewing threads.
    """

    made: int = 0
    late: int = 0
    failed: int = 0
    lost: int = 0
    connects: int = 0


class Lease:
    """The lease under which one worker id has its jobs. A lost lease stays lost: a worker that goes on begins another.

    `is_lost` and `held_until` are the whole state. Only the renewing thread sets them, and no other flag repeats them.
    That thread calls `on_lost` with the lease when it has run out or is about to, and reads `loop_delay`, in seconds,
    for each renewal.
    """

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        *,
        renewals: Renewals,
        on_lost: Callable[[Lease], None],
        loop_delay: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._settings = settings
        self._dsn = dsn
        self._renewals = renewals
        self._on_lost = on_lost
        self._loop_delay = loop_delay
        self._stopped = threading.Event()
        self._woken = threading.Event()
        self._is_checked = True
        self._is_given_up = False
        self._thread: threading.Thread | None = None
        self.worker: Final = uuid7()
        self.is_lost = False
        """Whether the lease ended without a stop. Once true, it stays true."""
        self.is_cut_off = False
        """Whether the lease was lost because the database was away, while this thread renewed on time."""
        self.held_until = 0.0
        """Until when the lease is certainly held, by the clock of leases. No attempt may begin later."""

    @property
    def is_held(self) -> bool:
        """Whether jobs may be claimed and begun now. It can be False for a moment before a late renewal."""
        return not self.is_lost and steady.seconds() < self.held_until

    @property
    def may_claim(self) -> bool:
        """Whether jobs may be claimed now: the lease is held, and was renewed since the last `check`."""
        return self._is_checked and self.is_held

    async def begin(
        self, *, queues: Sequence[str], tasks: Sequence[str], concurrency: int, state: str, follows: Sequence[UUID]
    ) -> None:
        """Register the worker on the connection that renews the lease, and renew it from now on. Called once.

        The lease takes over the orders of those that it `follows`. `concurrency` and `state` hold if their rows are
        gone.

        Raises the database's error, for example `DatabaseUnavailable`; then there is no lease to renew.
        """
        row = (
            *(socket.gethostname(), os.getpid(), version("rowlock"), list(queues), list(tasks), concurrency, state),
            *(self._settings.lease, list(follows)),
        )
        begun = Future[None]()
        begun.set_running_or_notify_cancel()  # the thread sets it, also if the caller was cancelled
        self._thread = threading.Thread(target=self._keep, args=(row, begun), name="rowlock-lease", daemon=True)
        self._thread.start()
        try:
            await asyncio.wrap_future(begun)
        except BaseException:
            self.give_up()
            raise

    def check(self) -> None:
        """Renew now, and allow no claim before: another connection was lost, and this one may be lost, too."""
        self._is_checked = False
        self._woken.set()

    def stop(self) -> None:
        """Stop renewing. The lease runs out by itself."""
        self._stopped.set()
        self._woken.set()

    def give_up(self) -> None:
        """Stop, and have the thread end the lease in the database: its shift did not open."""
        self._is_given_up = True
        self.stop()

    async def end(self, connection: ControlConnection) -> None:
        """Stop renewing, and end the lease in the database."""
        self.stop()
        for _ in range(100):  # no join in one of asyncio's threads: handlers may use all of them
            if self._thread is None or not self._thread.is_alive():
                break
            await asyncio.sleep(0.02)
        await connection.fetch("end_lease", self.worker)

    def _keep(self, row: tuple[object, ...], begun: Future[None]) -> None:
        """Register, and renew until stopped or lost. A defect that ends the thread loses the lease, too."""
        try:
            asyncio.run(self._begin_and_renew(row, begun))
        except BaseException as error:
            if begun.done():
                raise
            begun.set_exception(error)  # there is no lease
        finally:
            if self.held_until and not self._stopped.is_set():
                self.is_lost = True
                self._renewals.lost += 1
                log.error("lease_lost", worker=str(self.worker))
                self._on_lost(self)

    async def _begin_and_renew(self, row: tuple[object, ...], begun: Future[None]) -> None:
        """Register and renew on one connection: a worker that cannot renew a lease does not begin one."""
        connection = ControlConnection(self._settings, self._dsn, purpose="lease")
        connection.on_connect(self._count_connect)
        try:
            until = steady.seconds() + self._settings.lease.total_seconds()
            await self._register(connection, row)
            self.held_until = until
            begun.set_result(None)
            await self._renew_until_stopped(connection, until)
        finally:
            if self._is_given_up or not begun.done():  # it may have begun, and only the answer was lost
                await self._end(connection)
            await connection.close()

    async def _register(self, connection: ControlConnection, row: tuple[object, ...]) -> None:
        """Register the worker. A stop cancels that: the statement may wait for a lock."""
        registering = asyncio.create_task(connection.fetch("register_worker", self.worker, *row))
        while not registering.done():
            await asyncio.wait({registering}, timeout=LOOK_EVERY)
            if self._stopped.is_set():
                registering.cancel()
        if not registering.result()[0]["has_begun"]:
            raise RowlockError(f"Worker {self.worker} did not begin its lease: a later one has begun.")

    async def _end(self, connection: ControlConnection) -> None:
        """End the lease in the database, if that answers soon. Otherwise it runs out."""
        with suppress(*CONNECTION_LOST, RowlockError, asyncpg.PostgresError):
            async with asyncio.timeout(END_SECONDS):
                await connection.fetch("end_lease", self.worker)

    async def _renew_until_stopped(self, connection: ControlConnection, until: float) -> None:
        """Renew until the lease is stopped or lost.

        `until` counts from before each renewal was sent: the database's lease ends later. A renewal waits for its
        answer at most half of the time that is left, so that another connection is tried before the lease is lost.

        A process that was frozen, or whose interpreter a job has blocked, renews late: it loses the lease by its own
        fault, and `is_cut_off` stays False.
        """
        heartbeat, margin = self._settings.heartbeat.total_seconds(), MARGIN * self._settings.lease.total_seconds()
        pause = 0.0  # at once, because a renewal stores the memory that the process uses
        is_held, is_on_time = True, True
        due = steady.seconds()
        while is_held and not self._wait(pause):
            began = steady.seconds()
            limit = max((until - margin - began) / 2, margin / 4)
            is_on_time = is_on_time and began < due + margin
            try:
                async with asyncio.timeout(limit):
                    is_held = await self._renew(connection)
            except (*CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
                is_on_time = is_on_time and steady.seconds() < began + limit + margin
                self._renewals.failed += 1
                log.warning("lease_not_renewed", worker=str(self.worker), error=type(error).__name__)
                left = max(until - margin - steady.seconds(), 0)
                is_held = left > 0
                self.is_cut_off = not is_held and is_on_time
                pause = min(RETRY_MOST, heartbeat, left) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter
            else:
                if is_held:
                    self._renewals.made += 1
                    self._renewals.late += began + self._settings.lease.total_seconds() - until > 2 * heartbeat
                    self.held_until = until = began + self._settings.lease.total_seconds()
                    self._is_checked = True
                pause, is_on_time = heartbeat, True
            due = steady.seconds() + pause

    async def _renew(self, connection: ControlConnection) -> bool:
        """Renew once. Return whether the database still had the lease."""
        delay = min(int(self._loop_delay() * 1000), LONGEST_MILLISECONDS)
        given = self.worker, self._settings.lease, delay, resident_bytes()  # seam: renewal
        return bool(await connection.fetch("renew_lease", *given))

    def _count_connect(self) -> None:
        self._renewals.connects += 1

    def _wait(self, seconds: float) -> bool:
        """Wait for so long, or until woken. Return whether stopped. May block: the loop is the thread's own."""
        self._woken.wait(seconds)
        self._woken.clear()
        return self._stopped.is_set()
