"""Databases for single tests, cloned in milliseconds from a migrated one, and applications that use them."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import asyncpg

from rowlock.app import Rowlock
from rowlock.embedded import find_binaries, temporary_server
from rowlock.errors import ConfigurationError, DatabaseUnavailable, InvalidOption
from rowlock.migrations import upgrade
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.pool import ClientPool
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.settings import Settings
from rowlock.words import quoted

if TYPE_CHECKING:
    from types import TracebackType

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy


T = TypeVar("T")

_NAME: Final = re.compile(r"[a-z0-9_]{1,63}")
VARIABLE: Final = "ROWLOCK_TEST_DATABASE_URL"


class Databases:
    """Temporary databases on one server, whose user may create databases. All calls block.

    `Databases()` uses the server in the environment's ROWLOCK_TEST_DATABASE_URL, else an embedded server that runs as
    long as the `with` block. Raises `ConfigurationError` if there is neither.

    >>> with Databases() as databases:
    ...     template = databases.template()
    ...     with databases.clone(template) as url, use_database(app, url):
    ...         asyncio.run(drain(app))
    """

    def __init__(self, server_url: str | None = None) -> None:
        if server_url is not None and not isinstance(server_url, str):  # it may contain a password: don't show it
            raise ConfigurationError(
                f"server_url must be text; got a value of type {type(server_url).__name__}. Omit it for that of "
                f"{VARIABLE}."
            )
        self._given_url = server_url or os.environ.get(VARIABLE)
        self._count = 0
        self._prefix = f"rowlock_test_{os.getpid()}_{secrets.token_hex(3)}"

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._given_url is None:
                _check_embedded()
            self.server_url = self._given_url or stack.enter_context(temporary_server()).url
            # A thread with its own event loop: the caller may have a running loop.
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
        """Create a migrated database, and return its name for `clone`.

        `prepare`, called once with its URL, creates what else the tests need; it must leave no connection open.
        """
        if prepare is not None and not callable(prepare):
            raise InvalidOption(f"prepare must be a function of (url); got {quoted(prepare)}. Omit it for none.")
        Settings(schema=schema)  # refuses a wrong one before there is a database
        name = self._stack.enter_context(self._database("template0"))
        settings = Settings(database_url=self.url(name), schema=schema)
        self._thread.submit(upgrade, settings).result()
        if prepare is not None:
            prepare(self.url(name))
        return name

    @contextmanager
    def clone(self, template: str) -> Iterator[str]:
        """Clone a template for the duration of the block; returns the clone's URL."""
        with self._database(template) as name:
            yield self.url(name)

    def url(self, name: str) -> str:
        """The URL of a database on this server."""
        return urlsplit(self.server_url)._replace(path=f"/{name}").geturl()

    @contextmanager
    def _database(self, template: object) -> Iterator[str]:
        if not isinstance(template, str) or not _NAME.fullmatch(template):
            raise InvalidOption(f"template must be a name that template() returned; got {quoted(template)}.")
        self._count += 1
        name = f"{self._prefix}_{self._count}"
        # On a server for tests alone, copying the files is fastest; elsewhere its checkpoint would slow others down.
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
                f"The user of {VARIABLE} must be able to create databases. Run ALTER ROLE … CREATEDB, or unset the "
                "variable for an embedded server."
            ) from error
        except asyncpg.InvalidCatalogNameError as error:
            raise InvalidOption(f"template must be a name that template() returned; {error}.") from error

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._thread.submit(self._runner.run, coroutine).result()

    async def _connect(self) -> asyncpg.Connection[Record]:
        try:
            return await asyncpg.connect(self.server_url)
        except (*CONNECTION_LOST, asyncpg.PostgresError, ValueError) as error:
            reason = "it cannot be read" if type(error) is ValueError else f"{type(error).__name__}: {error}"
            raise DatabaseUnavailable(
                f"The tests cannot connect to PostgreSQL at {_masked(self.server_url)} ({reason}). Check {VARIABLE}."
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
            f'The tests need a PostgreSQL: pip install "rowlock[embedded]", or set {VARIABLE} to the URL of a server '
            f"whose user may create databases. ({error})"
        ) from error


class Unpooled(ClientPool):
    """Opens a connection for each use, so that none outlives a test's event loop."""

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PoolConnectionProxy[Record]]:
        """Open a connection for the duration of the block."""
        pool = ClientPool(self._settings, self._dsn)
        try:
            async with pool.acquire() as connection:
                yield connection
        finally:
            await pool.close()


def check_app(app: object) -> None:
    """Raise `InvalidOption` for anything but an application."""
    if not isinstance(app, Rowlock):
        raise InvalidOption(f"app must be a Rowlock(); got {quoted(app)}. Pass the object whose @app.task you use.")


@contextmanager
def use_database(app: Rowlock, database_url: str) -> Iterator[Rowlock]:
    """Switch an application to another database for the duration of the block, with its tasks, handles and workers.

    The other settings stay. Inside the block, each use opens a connection of its own, so that nothing outlives a test's
    event loop. A worker of the application must not run across the start or the end of the block.
    >>> with use_database(app, url):
    ...     await send_email.enqueue("ada@example.com", "Hi", "…")
    """
    check_app(app)
    settings, database = app.settings, vars(app.database)
    other = replace(settings, database_url=database_url)
    before = dict(database)
    app.settings = other
    database.update(vars(Database(other, pool=Unpooled)))  # in place: tasks and handles refer to it
    try:
        yield app
    finally:
        app.close_sync()
        app.settings = settings
        database.clear()
        database.update(before)


__all__ = ["Databases", "Unpooled", "check_app", "use_database"]
