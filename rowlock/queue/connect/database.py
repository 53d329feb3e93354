"""The connections of an application, made for each event loop when needed; and statements over them."""

from __future__ import annotations

import asyncio
import random
import threading
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload
from weakref import WeakKeyDictionary, ref

import asyncpg

from rowlock.database_url import for_driver
from rowlock.embedded import EmbeddedServer
from rowlock.errors import LockTimeout, SchemaNotMigrated, SchemaTooNew, SchemaTooOld
from rowlock.queue.connect import drivers, server_errors, sessions
from rowlock.queue.connect.background import Background
from rowlock.queue.connect.pool import MOST_CONNECTIONS, MOST_CONTENDED, ClientPool, PoolUse
from rowlock.queue.connect.statements import statement
from rowlock.queue.connect.transaction import CallersTransaction, OwnTransaction, Transaction
from rowlock.queue.connect.waits import Waits
from rowlock.schema import REVISION

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
    from uuid import UUID

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.database_url import Driver
    from rowlock.settings import Settings

T = TypeVar("T")

PATIENCE: Final = 10.0
"""Seconds within which another's transaction must end that a statement waits for."""
LOCK_WAIT: Final = "250ms"
"""How long one try waits while it uses a connection of the pool; between the tries it uses none."""
ACT_LOCK_WAIT: Final = "2s"
"""An act is tried once."""
_LONGEST_PAUSE: Final = 1.0
_KEPT: Final = "_rowlock_connections"
"""The attribute of an event loop that stores the applications' connections, so that both end together."""


class _OfLoop:
    """The connections of one event loop: the program's own, or the one in the background for synchronous callers.

    They end with the loop. A proper end of a loop, as by `asyncio.run`, closes the asynchronous generators that were
    begun on it, and the one here closes the connections. If a loop was closed without that, `cut` is called when the
    application is used on another loop. A loop that is garbage-collected unclosed takes this object with it: only the
    loop refers to it (the connections refer to their loop, so nothing else may refer to them for good).
    """

    __slots__ = ("__weakref__", "_until_end", "contended", "loop", "pool", "waits")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = ref(loop)
        self._until_end = self._close_at_end()
        self.pool: ClientPool | None = None
        self.waits: Waits | None = None
        self.contended = asyncio.Semaphore(MOST_CONTENDED)

    async def begin(self) -> None:
        """Register the connections with the loop, which closes them when it ends."""
        await anext(self._until_end)

    async def close(self) -> None:
        """Close the connections."""
        await self._until_end.aclose()

    def cut(self) -> None:
        """Cut the connections of a closed loop, on which nothing can be awaited."""
        if self.waits is not None:
            self.waits.cut()
        if self.pool is not None:
            self.pool.cut()

    async def _close_at_end(self) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            if self.waits is not None:
                await self.waits.close()
            if self.pool is not None:
                await self.pool.close()


def _kept_by(loop: asyncio.AbstractEventLoop) -> WeakKeyDictionary[Database, _OfLoop]:
    """The loop's connections, by application."""
    kept: WeakKeyDictionary[Database, _OfLoop] | None = getattr(loop, _KEPT, None)
    if kept is None:
        kept = WeakKeyDictionary()
        setattr(loop, _KEPT, kept)
    return kept


class Database:
    """The application's connections. It connects at the first use.

    Without a `database_url` in the settings, the first use joins the development server, but starts none. `pool` is the
    class of its connection pools.
    """

    def __init__(self, settings: Settings, *, pool: type[ClientPool] = ClientPool) -> None:
        self.settings = settings
        self._pool_class = pool
        self.url: str | None = settings.database_url
        """The URL in use, once it is known."""
        self._here: ref[_OfLoop] | None = None
        self._of_loops: set[ref[_OfLoop]] = set()
        self._background = Background()
        self._starting = threading.Lock()
        self._server: EmbeddedServer | None = None

    async def dsn(self) -> str:
        """The DSN in use: the configured one, or that of the development server that runs in `data_dir`.

        Raises `ConfigurationError` if there is neither.
        """
        return await asyncio.to_thread(self._join_server) if self.url is None else self.url

    async def database_url(self, driver: Driver | None = None) -> str:
        """The database's URL, for a connection or an engine of the application's own. It contains the password."""
        return for_driver(await self.dsn(), driver)

    def _join_server(self) -> str:
        with self._starting:
            if self.url is None:
                server = EmbeddedServer(self.settings.data_dir)
                server.join()
                self._server, self.url = server, server.url
        return self.url

    def run_sync(self, coroutine: Coroutine[Any, Any, T], connection: object = None) -> T:
        """Run one of the application's coroutines for a synchronous caller.

        Over a connection of the caller it runs here, in this thread; without one in an event loop in the background.
        Raises `InvalidOption` for an asynchronous connection, and `InsideEventLoop`.
        """
        if connection is None:
            return self._background.run(coroutine)
        try:
            drivers.check_synchronous(connection)
        except BaseException:
            coroutine.close()
            raise
        return drivers.drive(coroutine)

    def close_sync(self) -> None:
        """Close the connections of synchronous callers."""
        self._background.close(self.close())

    def move(self, settings: Settings) -> None:
        """Use another database from now on. Connections to the former one stay open for their present users."""
        self.settings = settings
        self.url = settings.database_url
        self._here = None
        for kept in list(self._of_loops):
            self._let_go(kept)

    async def check_schema(self) -> None:
        """Check that the schema has the revision of this code.

        Raises `SchemaNotMigrated`, `SchemaTooOld`, `SchemaTooNew`.
        """
        rows = await self.run("schema_version")
        if rows and rows[0]["is_renamed"]:
            raise SchemaNotMigrated(
                f"The schema {self.settings.schema} at {self.settings.masked_database_url()} was renamed: its "
                "functions use its former name. Rename it back: ALTER SCHEMA … RENAME TO …, and set ROWLOCK_SCHEMA."
            )
        found = rows[0]["version_num"] if rows else ""
        if not found:
            raise server_errors.not_migrated(self.settings)
        if found < REVISION:
            raise SchemaTooOld(
                f"The schema {self.settings.schema} at {self.settings.masked_database_url()} is at revision {found}, "
                f"and this Rowlock needs {REVISION}. Run: rowlock migrate"
            )
        if found > REVISION:
            raise SchemaTooNew(
                f"The schema {self.settings.schema} is at revision {found}, and this Rowlock knows {REVISION}: "
                "it was migrated by a newer one. Upgrade the package: pip install --upgrade rowlock"
            )

    async def close(self) -> None:
        """Close the connections."""
        here = _kept_by(asyncio.get_running_loop()).pop(self, None)
        if here is not None:
            self._here = None
            await here.close()

    @overload
    async def run(self, name: str, *parameters: object) -> list[Record]: ...
    @overload
    async def run(self, name: str, *parameters: object, connection: object) -> Sequence[Any]: ...
    async def run(self, name: str, *parameters: object, connection: object = None) -> Sequence[Any]:
        """Run the statement `<name>.sql` over the caller's connection, or in a transaction of its own if that is None.

        In its own it is retried once if the server accepts no writes. Errors of the caller's driver come without the
        parameters. Raises `DatabaseUnavailable`, `SchemaNotMigrated`, `StatementTimeout`.
        """
        if connection is not None:
            async with self.transaction(connection) as transaction:
                return await transaction.run(name, *parameters)
        sql = statement(name, self.settings.schema)
        timeout = sessions.LONG_QUERY_TIMEOUT if name in sessions.LONG_QUERIES else sessions.QUERY_TIMEOUT
        try:
            async with self.connection(name) as own:
                return await own.fetch(sql, *parameters, timeout=timeout)
        except server_errors.WritesRefused:  # the pool has discarded its connections to that server
            async with self.connection(name) as own:
                return await own.fetch(sql, *parameters, timeout=timeout)

    @overload
    def transaction(
        self, connection: None = None, *, plan: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> AbstractAsyncContextManager[OwnTransaction]: ...
    @overload
    def transaction(self, connection: object) -> AbstractAsyncContextManager[Transaction]: ...
    def transaction(
        self, connection: object = None, *, plan: Mapping[str, str] | None = None, timeout: float | None = None
    ) -> AbstractAsyncContextManager[Transaction]:
        """A transaction during the block: the one on the caller's connection, or a new one of Rowlock's own.

        `plan`: settings of the planner, for the transaction; `timeout`: of each statement, in seconds; both only for a
        new one. Raises `DatabaseUnavailable`, `SchemaNotMigrated`, and `InvalidOption` for an invalid connection.
        """
        return self._new_transaction(plan, timeout) if connection is None else self._callers_transaction(connection)

    @asynccontextmanager
    async def _new_transaction(
        self, plan: Mapping[str, str] | None, timeout: float | None
    ) -> AsyncIterator[OwnTransaction]:
        async with self.connection() as own, sessions.own_transaction(own):
            transaction = OwnTransaction(own, self.settings.schema, timeout)
            if plan:
                await transaction.run("plan_safely", list(plan), list(plan.values()))
            yield transaction

    @asynccontextmanager
    async def _callers_transaction(self, connection: object) -> AsyncIterator[CallersTransaction]:
        try:
            yield CallersTransaction(connection, self.settings.schema)
        except Exception as error:
            server_errors.raise_clear(self.settings, error)
            raise

    @asynccontextmanager
    async def connection(self, name: str = "") -> AsyncIterator[PoolConnectionProxy[Record]]:
        """One of the application's connections, during the block. Errors of the driver become Rowlock's.

        `name` is the block's statement, if it has only one: if that takes too long, this raises `StatementTimeout`.
        Raises `DatabaseUnavailable`, `SchemaNotMigrated`.
        """
        here = None if self._here is None else self._here()
        if here is None or here.pool is None or here.loop() is not asyncio.get_running_loop():
            dsn, here = await self.dsn(), await self._of_this_loop()
            if here.pool is None:
                here.pool = self._pool_class(self.settings, dsn)
        try:
            async with here.pool.acquire() as connection:
                yield connection
        except asyncpg.ReadOnlySQLTransactionError as error:
            raise server_errors.refused(self.settings, error) from error
        except asyncpg.InsufficientPrivilegeError as error:
            who, lacking = await self._lacking(here.pool, error)
            raise server_errors.not_allowed(self.settings, error, who, lacking) from error
        except server_errors.FORGOTTEN as error:
            raise server_errors.forgotten(self.settings) from error
        except server_errors.NOT_MIGRATED as error:
            raise server_errors.not_migrated(self.settings) from error
        except (asyncpg.PostgresError, TimeoutError) as error:
            server_errors.hide_values(error)
            if name:
                server_errors.raise_limited(name, error)
            raise

    async def _lacking(self, pool: ClientPool, error: asyncpg.PostgresError) -> tuple[str | None, list[str]]:
        """The role and the rights that it lacks on the denied object of an error, as far as the server reports them."""
        found = server_errors.denied(error)
        if found is None:
            return None, []
        try:
            async with pool.acquire() as connection:
                sql, schema = statement("lacking_rights", self.settings.schema), self.settings.schema
                (row,) = await connection.fetch(sql, schema, *found)
        except (*server_errors.CONNECTION_LOST, asyncpg.PostgresError):
            return None, []  # the first error suffices
        return f"The role {row['role']}", row["rights"]

    async def patiently(self, work: Callable[[], Awaitable[T]], waits_for: str) -> T:
        """Call `work`, a transaction that waits at most `LOCK_WAIT` for another's, again until it need not wait.

        Between the calls it uses no connection; and at most `MOST_CONTENDED` use one at a time, so that statements
        without a wait always find one. `waits_for` names the locked object. Raises `LockTimeout`.
        """
        loop = asyncio.get_running_loop()
        until, pause = loop.time() + PATIENCE, 0.02
        while True:
            try:
                async with self.contended(until):
                    return await work()
            except (asyncpg.LockNotAvailableError, LockTimeout) as error:
                if loop.time() + pause >= until:
                    raise LockTimeout(
                        f"An open transaction holds {waits_for}, and did not end within {PATIENCE:g} s. Nothing was "
                        "stored. Commit it or roll it back, and try again."
                    ) from error
            await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311  # a jitter is not secret
            pause = min(2 * pause, _LONGEST_PAUSE)

    @asynccontextmanager
    async def contended(self, until: float | None = None) -> AsyncIterator[None]:
        """Take one of the slots for transactions that wait for others' while they use a connection of the pool.

        Raises `LockTimeout` if none was free by `until` (a time of the loop).
        """
        slots = (await self._of_this_loop()).contended
        try:
            async with asyncio.timeout_at(until or asyncio.get_running_loop().time() + PATIENCE):
                await slots.acquire()
        except TimeoutError as error:
            raise LockTimeout(
                f"{MOST_CONTENDED} transactions wait for those of others already. Nothing was changed. Try again."
            ) from error
        try:
            yield
        finally:
            slots.release()

    async def in_contended_transaction(self, work: Callable[[OwnTransaction], Awaitable[T]], waits_for: str) -> T:
        """Call `work` in a new transaction, one for each try of `patiently`. Raises `LockTimeout`."""

        async def once() -> T:
            async with self.transaction() as transaction:
                await transaction.run("limit_lock_wait", LOCK_WAIT)
                return await work(transaction)

        return await self.patiently(once, waits_for)

    def pool_use(self, loop: asyncio.AbstractEventLoop) -> PoolUse:
        """The present connections of this event loop's callers. Any thread may call this."""
        here = _kept_by(loop).get(self)
        pool = None if here is None else here.pool
        return PoolUse(0, 0, MOST_CONNECTIONS) if pool is None else pool.use

    @asynccontextmanager
    async def watch(self, job_id: UUID) -> AsyncIterator[asyncio.Event | None]:
        """An event that is set when the job may have ended; None without LISTEN: then poll."""
        if not self.settings.listen:
            yield None
            return
        dsn = await self.dsn()
        here = await self._of_this_loop()
        if here.waits is None:
            here.waits = Waits(self.settings, dsn)
        async with here.waits.watch(job_id) as told:
            yield told

    async def _of_this_loop(self) -> _OfLoop:
        loop = asyncio.get_running_loop()
        here = None if self._here is None else self._here()
        if here is None or here.loop() is not loop:
            kept = _kept_by(loop)
            here = kept.get(self)
            if here is None:
                here = kept[self] = _OfLoop(loop)
                self._of_loops.add(ref(here, self._of_loops.discard))
                await here.begin()
                self._forget_closed_loops()
            self._here = ref(here)
        return here

    def _forget_closed_loops(self) -> None:
        """Forget the connections of closed loops. Other threads may do so at the same time."""
        for kept in list(self._of_loops):
            left = kept()
            loop = None if left is None else left.loop()
            if left is not None and loop is not None and loop.is_closed():
                self._let_go(kept)
                left.cut()

    def _let_go(self, kept: ref[_OfLoop]) -> None:
        self._of_loops.discard(kept)
        left = kept()
        if left is not None and (loop := left.loop()) is not None:
            _kept_by(loop).pop(self, None)
