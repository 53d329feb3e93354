"""Rowlock's own connections: make, keep and discard them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import asyncpg

from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connect import hosts
from rowlock.queue.connect.server_errors import (
    CONNECTION_LOST,
    FORGOTTEN,
    NOT_MIGRATED,
    forgotten,
    hide_values,
    not_migrated,
    unavailable,
)
from rowlock.queue.connect.statements import WAKEUP_CHANNEL, channel, statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.settings import Settings

PLANNER_SETTINGS: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_mergejoin": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_generic_plan",
    "jit": "off",
}
"""Settings that keep the planner from turning a range scan of the claim index into a scan of the whole table.

A live table is often analysed while it is empty and used while it is full, or full of dead rows: the statistics
cannot be trusted, so the plans do not depend on them. Set once a session; behind a transaction pooler, SET LOCAL in
each transaction.
"""

CUSTOM_PLAN: Final = {"plan_cache_mode": "force_custom_plan"}
"""A generic plan locks the partitions of every day, whichever days its parameters name."""

CONNECT_TIMEOUT: Final = 10.0
QUERY_TIMEOUT: Final = 10.0
"""For statements that work by an index on few rows: they take milliseconds, or the server is gone."""
LONG_QUERY_TIMEOUT: Final = 30.0
"""For statements that read or write many rows, or wait for another transaction."""
LONG_QUERIES: Final = frozenset(
    {
        *(
            "create_partition",
            "missing_partitions",
            "declare_schedules",
            "mark_undeclared",
            "end_overdue",
            "late",
            "prune_ticks",
            "rescue",
        ),
        *(
            "drop_day",
            "due_days",
            "empty_days",
            "expired_results",
            "list_archive_days",
            "due_results",
            "remove_results",
            "retain_day",
        ),
        "retain_default",
        *("forget_idempotency_keys", "forget_progress", "forget_unique_keys", "forget_waiters", "forget_workers"),
        *("group_dead_letters", "list_attempts", "list_finished", "list_jobs", "list_logs", "list_operations"),
        *("doctor_default_rows", "doctor_horizon", "doctor_partitions", "doctor_unclaimed", "doctor_workers"),
        *("doctor_archive", "doctor_overdue", "doctor_tables"),
        "enqueue",  # whose unique key may be in a transaction that is still open
    }
)
CLOSE_TIMEOUT: Final = 2.0

KEEPALIVE: Final = {"TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
"""The kernel detects a silently dead peer within ten seconds, even while nothing is sent. Seconds; the last one, for
unacknowledged data, in milliseconds. A platform that lacks one of them does without it."""


SERVER_KEEPALIVE: Final = {"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "2", "tcp_keepalives_count": "3"}
"""The other direction: the server detects within 16 seconds that this side is silently dead, and releases the locks of
its open transaction. Its own default takes two hours. A transaction pooler would refuse the settings."""

_SESSION: Final = PLANNER_SETTINGS | SERVER_KEEPALIVE | {"default_transaction_isolation": "read committed"}


def deadline(name: str) -> float:
    """How long `<name>.sql` may take, in seconds, before its connection counts as lost."""
    return LONG_QUERY_TIMEOUT if name in LONG_QUERIES else QUERY_TIMEOUT


async def connect(
    settings: Settings, dsn: str, *, purpose: str, session: Mapping[str, str] = _SESSION
) -> asyncpg.Connection[Record]:
    """A control connection of Rowlock's own: safe plans, READ COMMITTED, a deadline on each query.

    Raises `DatabaseUnavailable` if no server answers or it refuses the login.
    """
    try:
        connection: asyncpg.Connection[Record] = await hosts.connect(
            dsn,
            timeout=CONNECT_TIMEOUT,
            command_timeout=QUERY_TIMEOUT,
            connection_class=Direct if settings.listen else Pooled,
            server_settings={"application_name": f"rowlock {purpose}"[:63]}
            | (dict(session) if settings.listen else {}),
        )
    except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
        raise unavailable(settings, error) from error
    await keep_alive(connection)
    return connection


class Direct(asyncpg.Connection):
    """A connection to a server. If its reset fails it ends quietly, even if no caller waits for the reset any more."""

    async def reset(self, *, timeout: float | None = None) -> None:
        """Reset it before its pool gives it to another caller; cut it if that fails."""
        try:
            await super().reset(timeout=timeout)
        except (*CONNECTION_LOST, asyncpg.PostgresError):
            self.terminate()


class Pooled(Direct):
    """A connection through a pooler, which gives each transaction any free session.

    A pooler that does not track prepared statements could pass one to a session in which another program has prepared a
    different one under the same name. These names are unique: the server knows the statement or refuses.
    """

    def _get_unique_id(self, prefix: str) -> str:
        return f"rowlock_{prefix}_{uuid4().hex}"


async def keep_alive(connection: asyncpg.Connection[Record]) -> None:
    """Make the kernel probe a quiet TCP connection; a Unix socket needs no probes."""
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001  # no public way
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


@asynccontextmanager
async def own_transaction(
    connection: asyncpg.Connection[Record] | PoolConnectionProxy[Record],
) -> AsyncIterator[None]:
    """A READ COMMITTED transaction on a connection of Rowlock's own, independent of the server's default.

    A cancelled block discards the connection, and the server rolls back: over a dead link a rollback would wait, and a
    handler that must stop would go on.
    """
    transaction = connection.transaction(isolation="read_committed")
    await transaction.start()
    try:
        yield
    except asyncio.CancelledError:  # seam: cancelled transaction
        throw_away(connection)
        raise
    except BaseException:
        with suppress(*CONNECTION_LOST):
            await transaction.rollback()  # if that fails, too, the first error matters more
        raise
    await transaction.commit()


def cut(connection: asyncpg.Connection[Record]) -> None:
    """Close the socket of a connection whose event loop is closed, so that the server ends its session.

    The transport of a closed loop cannot close it: it needs the loop. uvloop closes the sockets together with the loop.
    """
    shown = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001  # no public way
    sock = getattr(shown, "_sock", None)
    if isinstance(sock, socket.socket):
        with suppress(OSError):  # it is closed
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def throw_away(connection: asyncpg.Connection[Record] | PoolConnectionProxy[Record]) -> None:
    """Cut the connection, unless its pool has released it already."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()


class ControlConnection:
    """A connection that is made at the first use, and again after it was lost. One statement at a time.

    After an error of the connection the next call connects again; the failed call is not repeated, because only the
    caller knows whether it may be.

    `lock_wait`: how long a statement may wait for a lock, in milliseconds; 0: no limit. A statement that has waited for
    so long raises `asyncpg.LockNotAvailableError`. `connects` counts the connections made, under their purpose.
    """

    def __init__(
        self,
        settings: Settings,
        dsn: str,
        *,
        purpose: str,
        lock_wait: int = 0,
        connects: Counter[str] | None = None,
    ) -> None:
        self._settings = settings
        limits = {"lock_timeout": str(lock_wait)} if lock_wait else {}
        self._session = _SESSION | limits
        self._of_transaction = "".join(f"SET LOCAL {k} = {v};" for k, v in (PLANNER_SETTINGS | limits).items())
        self._dsn = dsn
        self._purpose = purpose
        self._lock = asyncio.Lock()
        self._connection: asyncpg.Connection[Record] | None = None
        self._on_wakeup: Callable[[str], None] | None = None
        self._channel = WAKEUP_CHANNEL
        self._on_connect: Callable[[], None] | None = None
        self._on_loss: Callable[[], None] | None = None
        self._on_return: tuple[str, float] | None = None
        self._away_since: float | None = None
        self._connects = Counter[str]() if connects is None else connects

    def on_connect(self, call: Callable[[], None]) -> None:
        """Call this after each connection that replaces a lost one."""
        self._on_connect = call

    def on_loss(self, call: Callable[[], None]) -> None:
        """Call this after each end of a connection: one that waits for notifications would not notice it otherwise."""
        self._on_loss = call

    def on_return(self, name: str, away: float) -> None:
        """Run `<name>.sql` before any other statement once the database is back after an outage of `away` seconds.

        The outage lasts from the sending of the first failed statement until the next statement is about to be sent.
        """
        self._on_return = name, away

    async def fetch(self, name: str, *parameters: object) -> list[Record]:
        """Run `<name>.sql`, as one transaction, and return its rows."""
        async with self._lock:
            sent_at = time.monotonic()
            try:
                connection = self._connection
                if connection is None or connection.is_closed():  # the server may have closed it while it was idle
                    connection = await self._open()
                if self._away_since is not None:
                    await self._come_back(connection, time.monotonic() - self._away_since)
                rows = await self._run(connection, name, *parameters)
            except (*CONNECTION_LOST, DatabaseUnavailable):
                if self._away_since is None:
                    self._away_since = sent_at  # seam: outage begins
                raise
            self._away_since = None
            return rows

    async def _come_back(self, connection: asyncpg.Connection[Record], away: float) -> None:
        if self._on_return is not None and away >= self._on_return[1]:
            await self._run(connection, self._on_return[0])

    async def _run(self, connection: asyncpg.Connection[Record], name: str, *parameters: object) -> list[Record]:
        sql = statement(name, self._settings.schema)
        try:
            if self._settings.listen:
                return await connection.fetch(sql, *parameters, timeout=deadline(name))
            async with own_transaction(connection):
                await connection.execute(self._of_transaction)
                return await connection.fetch(sql, *parameters, timeout=deadline(name))
        except NOT_MIGRATED as error:
            raise not_migrated(self._settings) from error
        except FORGOTTEN as error:
            self._drop()
            raise forgotten(self._settings) from error
        except (*CONNECTION_LOST, asyncio.CancelledError):
            # Cancelled in the middle of a query, the connection's state is unknown: it is discarded as well.
            self._drop()
            raise
        except asyncpg.PostgresError as error:
            hide_values(error)
            raise

    async def listen(self, on_wakeup: Callable[[str], None], to: str = WAKEUP_CHANNEL) -> None:
        """Call `on_wakeup(payload)` for each notification, on this connection and on each that replaces it.

        The payload is the queue's name; on another channel than the workers' own, the text that is sent there.
        """
        self._on_wakeup = on_wakeup
        self._channel = to
        async with self._lock:
            if self._connection is None or self._connection.is_closed():
                await self._open()
            elif self._settings.listen:
                try:
                    await self._add_listener(self._connection, on_wakeup)
                except BaseException:
                    self._drop()
                    raise

    @property
    def is_open(self) -> bool:
        """Whether it is connected, as far as the client knows."""
        return self._connection is not None and not self._connection.is_closed()

    @property
    def is_pooled(self) -> bool:
        """Whether a pooler may be between: then a failover to another server causes no reconnect."""
        return not self._settings.listen

    @property
    def is_away(self) -> bool:
        """Whether the last statement failed because the database was away."""
        return self._away_since is not None

    async def open(self) -> None:
        """Connect now, unless it is connected."""
        async with self._lock:
            if not self.is_open:
                await self._open()

    async def discard(self) -> None:
        """Discard the connection: the next call makes another one."""
        async with self._lock:
            self._drop()

    def cut(self) -> None:
        """Cut the connection of a closed event loop. Otherwise use `close`."""
        if self._connection is not None:
            cut(self._connection)

    async def close(self) -> None:
        """Close the connection, politely if the server answers at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await connection.close()
            except CONNECTION_LOST:
                connection.terminate()

    async def _open(self) -> asyncpg.Connection[Record]:
        self._drop()
        connection = await connect(self._settings, self._dsn, purpose=self._purpose, session=self._session)
        if self._on_wakeup is not None and self._settings.listen:
            try:
                await self._add_listener(connection, self._on_wakeup)
            except BaseException:
                connection.terminate()  # it would seem to listen, but receive nothing
                raise
        connection.add_termination_listener(self._ended)
        self._connection = connection
        self._connects[self._purpose] += 1
        if self._on_connect is not None:
            self._on_connect()
        return connection

    def _ended(self, _connection: object) -> None:
        if self._on_loss is not None:
            self._on_loss()

    async def _add_listener(self, connection: asyncpg.Connection[Record], wake: Callable[[str], None]) -> None:
        await connection.add_listener(
            channel(self._settings.schema, self._channel), lambda _c, _pid, _channel, queue: wake(str(queue))
        )

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
