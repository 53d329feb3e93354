"""Enqueue in a transaction of SQLAlchemy's: an `AsyncSession` or `AsyncConnection` over asyncpg as a `Caller`."""

from __future__ import annotations

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

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

    from rowlock.queue.connections import Caller

_IN_FAILED_TRANSACTION: Final = "25P02"
_REMEDY: Final = "is not supported yet: give an AsyncSession or AsyncConnection over asyncpg."
_CLOSED: Final = "The given SQLAlchemy connection is closed: give one that is open."
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


class _Caller:
    """Runs statements by SQLAlchemy's own execution, which begins its transaction with the first one."""

    __slots__ = ("_open",)

    def __init__(self, open_: Callable[[], Awaitable[AsyncConnection]]) -> None:
        self._open = open_

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement and return its rows. Raises `InvalidOption` where the transaction cannot take one."""
        try:
            connection = await self._open()
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
