"""Enqueue, or finish a job, in an SQLAlchemy transaction, over asyncpg, psycopg or psycopg2."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    PendingRollbackError,
    ResourceClosedError,
    UnboundExecutionError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
from sqlalchemy.orm import Session, scoped_session

from rowlock.errors import InvalidOption
from rowlock.integrations.pyformat import IN_FAILED_TRANSACTION, named, pyformat
from rowlock.queue.finish.transaction import ROLLBACK_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from rowlock.queue.connect.drivers import Caller
    from rowlock.queue.finish.transaction import OpenTransaction

_KINDS: Final = (
    "connection must be a Session, Connection, AsyncSession or AsyncConnection over postgresql+asyncpg, "
    "postgresql+psycopg or postgresql+psycopg2"
)
_SCOPED: Final = (async_scoped_session, scoped_session)
_DRIVERS: Final = frozenset({"asyncpg", "psycopg", "psycopg2"})
_AS_IT_IS: Final = {"stream_results": False, "yield_per": None}
_CLOSED: Final = "connection must be open; got a closed SQLAlchemy connection."
_AUTOCOMMIT: Final = (
    "connection must be in a transaction; got an SQLAlchemy connection in AUTOCOMMIT. Use one without "
    'isolation_level="AUTOCOMMIT"; or omit connection to enqueue in a transaction of its own.'
)
_ENDED: Final = (
    "The transaction of job.transaction() was ended inside its block. Leave commit and rollback to the end of the "
    "block; for a part that you may undo, use begin_nested()."
)
_ROLL_BACK: Final = (
    "The transaction of the given SQLAlchemy connection has failed. Roll it back (or its savepoint) before enqueuing."
)


def adapt(connection: object) -> Caller:
    """Return a session or connection as a `Caller`: its statements are part of its open transaction.

    Accepts `AsyncSession`, `AsyncConnection`, `Session`, `Connection` and the scoped sessions, of `postgresql+asyncpg`,
    `postgresql+psycopg` and `postgresql+psycopg2` engines. Without an open transaction, SQLAlchemy begins one, as at
    any first statement: without a commit the job never exists. It does not flush the session's pending objects.
    Raises `InvalidOption` for any other kind or driver.

    >>> async with AsyncSession(engine) as session, session.begin():
    ...     session.add(User(email="ada@example.com"))
    ...     await send_email.using(connection=session).enqueue("ada@example.com", "Hi", "…")
    """
    if isinstance(connection, _SCOPED):
        connection = connection()
    if isinstance(connection, AsyncSession):
        return _Caller(connection.connection, named=_takes_names(_dialect(connection)))
    if isinstance(connection, Session):
        return _SynchronousCaller(connection.connection, named=_takes_names(_dialect(connection)))
    if isinstance(connection, AsyncConnection):
        _check_open(connection)
        return _Caller(_returning(connection), named=_takes_names(connection.dialect))
    if isinstance(connection, Connection):
        _check_open(connection)
        return _SynchronousCaller(lambda: connection, named=_takes_names(connection.dialect))
    raise InvalidOption(f"{_KINDS}; got SQLAlchemy's {type(connection).__name__}.")


async def begin(connection: object) -> OpenTransaction:
    """Begin a transaction for `job.transaction(...)`, or take over the one that is open: it commits all of it.

    Accepts what `adapt` accepts. Raises `InvalidOption` for any other kind or driver.
    """
    caller = adapt(connection)
    if isinstance(connection, async_scoped_session):
        connection = connection()
    if not isinstance(connection, AsyncSession | AsyncConnection):
        raise InvalidOption(
            f"job.transaction() needs an AsyncSession or AsyncConnection; got the synchronous "
            f"{type(connection).__name__} of SQLAlchemy."
        )
    if not connection.in_transaction():
        await connection.begin()
    await _refuse_autocommit(await connection.connection() if isinstance(connection, AsyncSession) else connection)
    return _Transaction(connection, caller)


class _Transaction:
    """The open transaction of a session or connection."""

    def __init__(self, connection: AsyncSession | AsyncConnection, caller: Caller) -> None:
        self.given = connection
        self._caller = caller
        self._began = _transaction_of(connection)

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        """Flush the session, then run a statement. Raises `InvalidOption` if the transaction was ended."""
        if self._began is None or _transaction_of(self.given) is not self._began:
            raise InvalidOption(_ENDED)
        if isinstance(self.given, AsyncSession):
            await self.given.flush()
        return await self._caller.fetch(sql, *parameters)

    async def commit(self) -> None:
        """Commit it."""
        await self.given.commit()

    async def rollback(self) -> None:
        """Roll it back, if the server responds."""
        async with asyncio.timeout(ROLLBACK_TIMEOUT):
            await self.given.rollback()


def _transaction_of(connection: AsyncSession | AsyncConnection) -> object:
    """SQLAlchemy's object of the outermost transaction; each transaction has another one."""
    return (
        connection.sync_session.get_transaction()
        if isinstance(connection, AsyncSession)
        else (connection.sync_connection and connection.sync_connection.get_transaction())
    )


class _Caller:
    """Runs statements by SQLAlchemy's own execution, which begins a transaction with the first one."""

    __slots__ = ("_named", "_open")
    is_synchronous = False

    def __init__(self, open_: Callable[[], Awaitable[AsyncConnection]], *, named: bool) -> None:
        self._open = open_
        self._named = named

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        """Run a statement and return its rows. Raises `InvalidOption` if the transaction cannot run one."""
        with _refusing():
            connection = await self._open()
            await _refuse_autocommit(connection)
            given = _for_driver(sql, parameters, is_named=self._named)
            result = await connection.exec_driver_sql(*given, execution_options=_AS_IT_IS)
            return result.all() if result.returns_rows else ()


class _SynchronousCaller:
    """The same for synchronous connections: it never waits."""

    __slots__ = ("_named", "_open")
    is_synchronous = True

    def __init__(self, open_: Callable[[], Connection], *, named: bool) -> None:
        self._open = open_
        self._named = named

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        """Run a statement and return its rows. Raises `InvalidOption` if the transaction cannot run one."""
        with _refusing():
            connection = self._open()
            if getattr(connection.connection.dbapi_connection, "autocommit", False):
                raise InvalidOption(_AUTOCOMMIT)
            given = _for_driver(sql, parameters, is_named=self._named)
            result = connection.exec_driver_sql(*given, execution_options=_AS_IT_IS)
            return result.all() if result.returns_rows else ()


def _for_driver(sql: str, parameters: tuple[Any, ...], *, is_named: bool) -> tuple[str, Any]:
    """The statement and its parameters in the driver's form: asyncpg takes `$n` and a tuple of Python values."""
    return (pyformat(sql), named(parameters)) if is_named else (sql, parameters)


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except PendingRollbackError as error:
        raise InvalidOption(_ROLL_BACK) from error
    except ResourceClosedError as error:
        raise InvalidOption(_CLOSED) from error
    except InvalidRequestError as error:
        raise InvalidOption(f"The given SQLAlchemy session or connection cannot be used: {error}") from error
    except DBAPIError as error:
        if IN_FAILED_TRANSACTION in {getattr(error.orig, "sqlstate", None), getattr(error.orig, "pgcode", None)}:
            raise InvalidOption(_ROLL_BACK) from error
        raise


def _returning(connection: AsyncConnection) -> Callable[[], Awaitable[AsyncConnection]]:
    async def itself() -> AsyncConnection:  # the same form as a session's `connection()`
        return connection

    return itself


def _check_open(connection: AsyncConnection | Connection) -> None:
    try:
        is_closed = connection.closed
    except InvalidRequestError as error:
        raise InvalidOption(f"The given SQLAlchemy connection cannot be used: {error}") from error
    if is_closed:
        raise InvalidOption(_CLOSED)


async def _refuse_autocommit(connection: AsyncConnection) -> None:
    """Raise `InvalidOption` if each statement would commit by itself, whatever SQLAlchemy calls that mode."""
    raw = await connection.get_raw_connection()
    if getattr(raw.dbapi_connection, "autocommit", False):
        raise InvalidOption(_AUTOCOMMIT)


def _dialect(session: AsyncSession | Session) -> Dialect:
    try:
        return session.get_bind().dialect
    except UnboundExecutionError as error:
        raise InvalidOption(
            "connection must have one engine; got a session bound to several or none. Pass the connection of the "
            "right one, await session.connection(bind_arguments=...)."
        ) from error


def _takes_names(dialect: Dialect) -> bool:
    """Whether the driver's parameters are named. Raises `InvalidOption` for an unknown driver."""
    if dialect.name != "postgresql" or dialect.driver not in _DRIVERS:
        raise InvalidOption(f"{_KINDS}; got {dialect.name}+{dialect.driver}.")
    return dialect.driver != "asyncpg"
