"""Shared connections: made when needed, discarded when their state is unknown."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from weakref import WeakSet

import asyncpg

from rowlock.queue.connect import hosts, sessions
from rowlock.queue.connect.server_errors import CONNECTION_LOST, unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.settings import Settings

MOST_CONNECTIONS: Final = 10
"""The limit of one pool."""
MOST_CONTENDED: Final = 7
"""How many of them may wait for others' transactions: the rest is for statements that wait for none."""
RELEASE_TIMEOUT: Final = 1.0
"""Seconds for the reset of a connection before it is free again; after them it is discarded."""


async def _nothing_to_reset(_connection: object) -> None:
    """Do nothing. Rowlock's own statements change no session, and a pooler in transaction mode keeps none."""


class PoolUse(NamedTuple):
    """How many connections a pool has, how many of them are idle, and how many it may have."""

    size: int
    idle: int
    limit: int


class ClientPool:
    """Connections that are made when needed: by default the application's, to enqueue and to read, apart from the
    worker's control connections.

    `is_patient`: for a handler's own statements, which have no time limit, and may wait for a free connection.
    """

    def __init__(self, settings: Settings, dsn: str, *, purpose: str = "client", is_patient: bool = False) -> None:
        self._settings = settings
        self._dsn = dsn
        self._purpose = purpose
        self._is_patient = is_patient
        self._pool: asyncpg.Pool[Record] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening = asyncio.Lock()
        self._made: WeakSet[asyncpg.Connection[Record]] = WeakSet()

    @property
    def use(self) -> PoolUse:
        """The present number of connections."""
        pool = self._pool
        if pool is None:
            return PoolUse(0, 0, MOST_CONNECTIONS)
        return PoolUse(pool.get_size(), pool.get_idle_size(), MOST_CONNECTIONS)

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """A connection during the block. Raises `DatabaseUnavailable`."""
        pool = self._pool
        if pool is None or self._loop is not asyncio.get_running_loop():
            pool = await self._open()
        try:
            connection = await pool.acquire(timeout=None if self._is_patient else sessions.CONNECT_TIMEOUT)
        except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
            raise unavailable(self._settings, error) from error
        try:
            yield connection
        except (*CONNECTION_LOST, asyncio.CancelledError) as error:
            # Half-open, to a demoted primary, or in the middle of a statement: it must not go back to the pool, which
            # would wait for it.
            sessions.throw_away(connection)
            if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                await pool.expire_connections()  # the idle ones lead to the same server
            raise
        finally:
            with suppress(*CONNECTION_LOST):  # then it has left the pool
                await pool.release(connection, timeout=RELEASE_TIMEOUT)

    async def _open(self) -> asyncpg.Pool[Record]:
        loop = asyncio.get_running_loop()
        if self._pool is not None and self._loop is loop:
            return self._pool
        async with self._opening:
            if self._pool is None or self._loop is not loop:
                try:
                    self._pool = await asyncpg.create_pool(
                        self._dsn,
                        connect=cast("Any", hosts.connect),  # the stubs want every option of asyncpg by its name
                        init=self._take_in,
                        min_size=0,
                        max_size=MOST_CONNECTIONS,
                        timeout=sessions.CONNECT_TIMEOUT,
                        command_timeout=None if self._is_patient else sessions.LONG_QUERY_TIMEOUT,
                        connection_class=sessions.Direct if self._settings.listen else sessions.Pooled,
                        reset=None if self._is_patient and self._settings.listen else _nothing_to_reset,
                        server_settings={"application_name": f"rowlock {self._purpose}"}
                        | (sessions.SERVER_KEEPALIVE if self._settings.listen else {}),
                    )
                except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
                    raise unavailable(self._settings, error) from error
                self._loop = loop
        return self._pool

    async def _take_in(self, connection: asyncpg.Connection[Record]) -> None:
        await sessions.keep_alive(connection)
        self._made.add(connection)

    def cut(self) -> None:
        """Cut all connections of a closed event loop. Otherwise use `close`."""
        for connection in self._made:
            sessions.cut(connection)

    async def close(self) -> None:
        """Close all connections; wait up to five seconds for those in use."""
        pool, self._pool = self._pool, None
        if pool is not None and self._loop is asyncio.get_running_loop():
            try:
                await asyncio.wait_for(pool.close(), 5)
            except TimeoutError:
                pool.terminate()
