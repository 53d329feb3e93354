"""The callers' connections of any driver: one way to run a statement inside the caller's transaction."""

from __future__ import annotations

import importlib
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast
from uuid import UUID

import asyncpg

from rowlock.errors import InvalidOption

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")


class Own(Enum):
    """The default of `connection=`: a transaction of Rowlock's own."""

    TRANSACTION = "own transaction"

    def __repr__(self) -> str:
        return "<a transaction of its own>"


def given(connection: object) -> object:
    """The caller's connection; None if none was given. Raises `InvalidOption` if None was given.

    A session that is None by mistake would take the job out of the caller's transaction unnoticed.
    """
    if connection is Own.TRANSACTION:
        return None
    if connection is None:
        raise InvalidOption(
            "connection must be an open connection or session; got None. Omit it to enqueue in a transaction of its "
            "own.",
            option="connection",
        )
    return connection


def or_own(connection: object) -> object:
    """The value of `connection=` for a connection that may be None, which means a transaction of its own."""
    return Own.TRANSACTION if connection is None else connection


OF_ASYNCPG: Final = (asyncpg.Connection, asyncpg.pool.PoolConnectionProxy)

_ADAPTERS: Final[dict[str, str]] = {
    "sqlalchemy": "rowlock.integrations.sqlalchemy",
    "psycopg": "rowlock.integrations.psycopg",
    "psycopg2": "rowlock.integrations.psycopg2",
    "django": "rowlock.integrations.django.connection",
}
"""Packages of foreign connections, and the module whose `adapt()` makes a `Caller` of one, imported at first use."""


class Open(Protocol):
    """An open connection, Rowlock's own or a caller's, of any driver."""

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement with `$n` parameters and return its rows."""
        ...


class Caller(Open, Protocol):
    """A connection of the caller: it runs one statement inside the caller's transaction.

    A synchronous driver's `Caller` has an `async` method, too, which never waits: see `drive`.
    """

    is_synchronous: bool


def adapt(connection: object) -> Caller:
    """The connection as a `Caller`. Raises `InvalidOption` for an unknown kind, or an unusable connection."""
    if isinstance(connection, OF_ASYNCPG):
        check_open(connection)
        return _OfAsyncpg(connection)
    return cast("Caller", importlib.import_module(adapter_of(connection)).adapt(connection))


def adapter_of(connection: object) -> str:
    """The module that knows connections of this kind. Raises `InvalidOption` if there is none."""
    for kind in type(connection).__mro__:
        module = _ADAPTERS.get(kind.__module__.partition(".")[0])
        if module is not None:
            return module
    raise InvalidOption(
        "connection must be one of asyncpg, psycopg, psycopg2 or Django, or a session or connection of SQLAlchemy; got "
        f"a value of type {type(connection).__qualname__}."
    )


def check_open(connection: asyncpg.Connection[Record] | PoolConnectionProxy[Record]) -> None:
    """Raise `InvalidOption` for a connection of asyncpg that is closed, or released to its pool."""
    try:
        is_closed = connection.is_closed()
    except asyncpg.InterfaceError as error:
        raise InvalidOption(f"The given asyncpg connection cannot be used: {error}") from error
    if is_closed:
        raise InvalidOption("The given asyncpg connection is closed. Give an open one.")


def check_synchronous(connection: object) -> None:
    """Raise `InvalidOption` for a connection that must be awaited."""
    if not adapt(connection).is_synchronous:
        raise InvalidOption(
            f"The given {type(connection).__qualname__} is an asynchronous connection. Await enqueue(...), or give "
            "enqueue_sync(...) a synchronous one."
        )


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, here, without a loop. It never waits, because its connection is synchronous."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    coroutine.close()
    raise RuntimeError("A coroutine over a synchronous connection has waited for something.")


class _OfAsyncpg:
    """A connection of asyncpg, as a `Caller`."""

    __slots__ = ("_connection",)
    is_synchronous = False

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # a connection, or a pool's proxy for one
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        try:
            rows: Sequence[Any] = await self._connection.fetch(sql, *parameters)
        except asyncpg.InFailedSQLTransactionError as error:
            raise InvalidOption(
                "The transaction of the given asyncpg connection has failed. Roll it back (or its savepoint) before "
                "enqueuing."
            ) from error
        return rows


def uuid_of(value: object) -> UUID:
    """The id, from the value of any driver."""
    return value if isinstance(value, UUID) else UUID(str(value))


__all__ = [
    "OF_ASYNCPG",
    "Caller",
    "Open",
    "Own",
    "adapt",
    "adapter_of",
    "check_open",
    "check_synchronous",
    "drive",
    "given",
    "or_own",
    "uuid_of",
]
