"""Enqueue, or finish a job, in a transaction of SQLAlchemy's: `AsyncSession` and `AsyncConnection` over asyncpg."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import (
    DBAPIError,
    InvalidRequestError,
    PendingRollbackError,
    ResourceClosedError,
    UnboundExecutionError,
)
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session

from rowlock.errors import InvalidOption
from rowlock.queue.transactions import ROLLBACK_TIMEOUT

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from rowlock.queue.connections import Caller
    from rowlock.queue.transactions import OpenTransaction

_IN_FAILED_TRANSACTION: Final = "25P02"
_REMEDY: Final = "is not supported yet: give an AsyncSession or AsyncConnection over asyncpg."
_CLOSED: Final = "The given SQLAlchemy connection is closed: give one that is open."
_AUTOCOMMIT: Final = (
    "The given SQLAlchemy connection is in AUTOCOMMIT: nothing on it is part of a transaction. Give one without "
    'isolation_level="AUTOCOMMIT"; or give none, and a job is enqueued in a transaction of its own.'
)
_ENDED: Final = (
    "The transaction of job.transaction() was ended inside its block: leave commit and rollback to the end of the "
    "block; for a part that may be undone use begin_nested()."
)
_ROLL_BACK: Final = (
    "The transaction of the given SQLAlchemy connection has failed: roll it back (or its savepoint) before enqueuing."
)


def adapt(connection: object) -> Caller:
    """Return a session or connection as a `Caller`: what it runs is part of the transaction that is open there.

    Takes `AsyncSession`, `AsyncConnection` and `async_scoped_session`, of `postgresql+asyncpg` engines. Where no
    transaction is open, SQLAlchemy begins one, as at any first statement: without a commit the job never exists. The
    session's pending objects are not flushed by it. Raises `InvalidOption` for any other kind or driver.

    >>> async with AsyncSession(engine) as session, session.begin():
    ...     session.add(User(email="ada@example.com"))
    ...     await send_email.using(connection=session).enqueue("ada@example.com", "Hi", "…")
    """
    if isinstance(connection, async_scoped_session):
        connection = connection()
    if isinstance(connection, AsyncSession):
        _check_driver(_dialect(connection))
        return _Caller(connection.connection)
    if isinstance(connection, AsyncConnection):
        _check_open(connection)
        _check_driver(connection.dialect)
        return _Caller(_returning(connection))
    raise InvalidOption(f"A {type(connection).__name__} of SQLAlchemy {_REMEDY}")


async def begin(connection: object) -> OpenTransaction:
    """Begin a transaction for `job.transaction(...)`, or take over the one that is open: it commits all of it.

    Takes what `adapt` takes. Raises `InvalidOption` for any other kind or driver.
    """
    caller = adapt(connection)
    if isinstance(connection, async_scoped_session):
        connection = connection()
    assert isinstance(connection, AsyncSession | AsyncConnection)  # noqa: S101  # adapt() refuses all others
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

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement in it, after what is pending in the session. Raises `InvalidOption` if it was ended."""
        if self._began is None or _transaction_of(self.given) is not self._began:
            raise InvalidOption(_ENDED)
        if isinstance(self.given, AsyncSession):
            await self.given.flush()
        return await self._caller.fetch(sql, *parameters)

    async def commit(self) -> None:
        """Commit it."""
        await self.given.commit()

    async def rollback(self) -> None:
        """Roll it back, if the server answers."""
        async with asyncio.timeout(ROLLBACK_TIMEOUT):
            await self.given.rollback()


def _transaction_of(connection: AsyncSession | AsyncConnection) -> object:
    """SQLAlchemy's object of the outermost transaction, by whose identity one is told from the next."""
    return (
        connection.sync_session.get_transaction()
        if isinstance(connection, AsyncSession)
        else (connection.sync_connection and connection.sync_connection.get_transaction())
    )


class _Caller:
    """Runs statements by SQLAlchemy's own execution, which begins its transaction with the first one."""

    __slots__ = ("_open",)

    def __init__(self, open_: Callable[[], Awaitable[AsyncConnection]]) -> None:
        self._open = open_

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement and return its rows. Raises `InvalidOption` where the transaction cannot take one."""
        try:
            connection = await self._open()
            await _refuse_autocommit(connection)
            # The dialect passes `$n` and Python's values on to asyncpg as they are. A tuple is one set of parameters.
            result = await connection.exec_driver_sql(
                sql, parameters, execution_options={"stream_results": False, "yield_per": None}
            )
            return result.all() if result.returns_rows else ()
        except PendingRollbackError as error:
            raise InvalidOption(_ROLL_BACK) from error
        except ResourceClosedError as error:
            raise InvalidOption(_CLOSED) from error
        except InvalidRequestError as error:
            raise InvalidOption(f"The given SQLAlchemy session or connection cannot be used: {error}") from error
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) == _IN_FAILED_TRANSACTION:
                raise InvalidOption(_ROLL_BACK) from error
            raise


def _returning(connection: AsyncConnection) -> Callable[[], Awaitable[AsyncConnection]]:
    async def itself() -> AsyncConnection:  # the same form as a session's `connection()`
        return connection

    return itself


def _check_open(connection: AsyncConnection) -> None:
    try:
        is_closed = connection.closed
    except InvalidRequestError as error:
        raise InvalidOption(f"The given SQLAlchemy connection cannot be used: {error}") from error
    if is_closed:
        raise InvalidOption(_CLOSED)


async def _refuse_autocommit(connection: AsyncConnection) -> None:
    """Raise `InvalidOption` where each statement would be committed by itself, whatever SQLAlchemy calls it."""
    raw = await connection.get_raw_connection()
    if getattr(raw.dbapi_connection, "autocommit", False):
        raise InvalidOption(_AUTOCOMMIT)


def _dialect(session: AsyncSession) -> Dialect:
    try:
        return session.get_bind().dialect
    except UnboundExecutionError as error:
        raise InvalidOption(
            "The given session is bound to no single engine: give the connection of the right one, "
            "await session.connection(bind_arguments=...)."
        ) from error


def _check_driver(dialect: Dialect) -> None:
    if (dialect.name, dialect.driver) != ("postgresql", "asyncpg"):
        raise InvalidOption(f"SQLAlchemy with {dialect.name}+{dialect.driver} {_REMEDY}")
