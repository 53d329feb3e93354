"""The callers' connections, whatever their driver: one way to run a statement inside the caller's transaction."""

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
    """The caller's connection; None where none was given. Raises `InvalidOption` where None was.

    A session that is None by mistake would cost the job its place in the caller's transaction, and nobody would notice.
    """
    if connection is Own.TRANSACTION:
        return None
    if connection is None:
        raise InvalidOption(
            "connection must be an open connection or session; got None. Leave it out to enqueue in a transaction of "
            "its own.",
            option="connection",
        )
    return connection


def or_own(connection: object) -> object:
    """What to give as `connection=` for a connection that may be None, and means a transaction of its own then."""
    return Own.TRANSACTION if connection is None else connection


OF_ASYNCPG: Final = (asyncpg.Connection, asyncpg.pool.PoolConnectionProxy)

_ADAPTERS: Final[dict[str, str]] = {
    "sqlalchemy": "rowlock.integrations.sqlalchemy",
    "psycopg": "rowlock.integrations.psycopg",
    "psycopg2": "rowlock.integrations.psycopg2",
    "django": "rowlock.integrations.django.connection",
}
"""Packages of foreign connections, and the module whose `adapt()` makes a `Caller` of one; imported when first seen."""


class Open(Protocol):
    """An open connection, Rowlock's own or a caller's, whatever its driver."""

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement with `$n` parameters and return its rows."""
        ...


class Caller(Open, Protocol):
    """A connection of the caller's: runs one statement inside the caller's transaction.

    That of a synchronous driver has an `async` method, too, which never waits: see `drive`.
    """

    is_synchronous: bool


def adapt(connection: object) -> Caller:
    """The connection as a `Caller`. Raises `InvalidOption` for a kind that is not known, or one that cannot be used."""
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
        f"A connection of type {type(connection).__qualname__} is not known: give one of asyncpg, psycopg, psycopg2 or "
        "Django, or a session or connection of SQLAlchemy."
    )


def check_open(connection: asyncpg.Connection[Record] | PoolConnectionProxy[Record]) -> None:
    """Raise `InvalidOption` for a connection of asyncpg that is closed, or released to its pool."""
    try:
        is_closed = connection.is_closed()
    except asyncpg.InterfaceError as error:
        raise InvalidOption(f"The given asyncpg connection cannot be used: {error}") from error
    if is_closed:
        raise InvalidOption("The given asyncpg connection is closed: give one that is open.")


def check_synchronous(connection: object) -> None:
    """Raise `InvalidOption` for a connection that must be awaited."""
    if not adapt(connection).is_synchronous:
        raise InvalidOption(
            f"The given {type(connection).__qualname__} is an asynchronous connection: await enqueue(...), or give "
            "enqueue_sync(...) a synchronous one."
        )


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never waits, since its connection is synchronous, to its end: here, without a loop."""
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
                "The transaction of the given asyncpg connection has failed: roll it back (or its savepoint) before "
                "enqueuing."
            ) from error
        return rows


def uuid_of(value: object) -> UUID:
    """The id, as any driver has it."""
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
