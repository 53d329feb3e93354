"""Enqueue, or finish a job, in a psycopg transaction: `Connection` and `AsyncConnection`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NoReturn

import psycopg
from psycopg import pq
from psycopg.rows import TupleRow, tuple_row

from rowlock.errors import InvalidOption
from rowlock.integrations.pyformat import named, pyformat
from rowlock.queue.finish.transaction import ROLLBACK_TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.connect.drivers import Caller
    from rowlock.queue.finish.transaction import OpenTransaction

_IDLE: Final = pq.TransactionStatus.IDLE
_FAILED: Final = pq.TransactionStatus.INERROR


def adapt(connection: object) -> Caller:
    """Return a connection as a `Caller`: its statements are part of the connection's open transaction.

    Without an open transaction, psycopg begins one, as at any first statement: without a commit the job never exists.
    Raises `InvalidOption` for anything but a `Connection` or `AsyncConnection`, for one that is closed or in a
    pipeline, and for one with `autocommit` outside of `connection.transaction()`.

    >>> with psycopg.connect(url) as connection:
    ...     connection.execute("INSERT INTO customer VALUES ('ada@example.com')")
    ...     send_email.using(connection=connection).enqueue_sync("ada@example.com", "Hi", "…")
    """
    if isinstance(connection, psycopg.AsyncConnection):
        _check(connection)
        return _Asynchronous(connection)
    if isinstance(connection, psycopg.Connection):
        _check(connection)
        return _Synchronous(connection)
    raise InvalidOption(
        f"connection must be a Connection or AsyncConnection of psycopg; got {type(connection).__qualname__}."
    )


async def begin(connection: object) -> OpenTransaction:
    """Begin a transaction for `job.transaction(...)`. Raises `InvalidOption` if one is open, and for other kinds."""
    if not isinstance(connection, psycopg.AsyncConnection):
        raise InvalidOption(
            f"job.transaction() needs an AsyncConnection of psycopg; got {type(connection).__qualname__}. Or omit it: "
            "job.transaction() then opens a connection of asyncpg."
        )
    if connection.closed:
        _refuse_closed()
    if connection.info.transaction_status is not _IDLE:
        raise InvalidOption(
            "job.transaction() needs a connection without an open transaction, because it commits at the end of its "
            "block; got a psycopg connection in a transaction."
        )
    transaction = _Transaction(connection)
    await transaction.begin()
    return transaction


class _Asynchronous:
    """An `AsyncConnection` as a `Caller`."""

    __slots__ = ("_connection",)
    is_synchronous = False

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[TupleRow]:  # noqa: ANN401  # as in the drivers
        _check(self._connection)
        async with psycopg.AsyncCursor(self._connection, row_factory=tuple_row) as cursor:
            try:
                await cursor.execute(pyformat(sql).encode(), named(parameters))
                return await cursor.fetchall() if cursor.description else ()
            except psycopg.errors.InFailedSqlTransaction as error:
                _refuse_failed(error)


class _Synchronous:
    """A `Connection` as a `Caller` that never waits."""

    __slots__ = ("_connection",)
    is_synchronous = True

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[TupleRow]:  # noqa: ANN401  # as in the drivers
        _check(self._connection)
        with psycopg.Cursor(self._connection, row_factory=tuple_row) as cursor:
            try:
                cursor.execute(pyformat(sql).encode(), named(parameters))
                return cursor.fetchall() if cursor.description else ()
            except psycopg.errors.InFailedSqlTransaction as error:
                _refuse_failed(error)


class _Transaction:
    """A transaction on an `AsyncConnection`."""

    def __init__(self, connection: psycopg.AsyncConnection[Any]) -> None:
        self.given = connection
        self._block = connection.transaction()

    async def begin(self) -> None:
        await self._block.__aenter__()

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        if self.given.info.transaction_status is _IDLE:
            raise InvalidOption(
                "The transaction of job.transaction() was ended inside its block. Leave commit and rollback to the end "
                "of the block; for a part that you may undo, use connection.transaction()."
            )
        return await _Asynchronous(self.given).fetch(sql, *parameters)

    async def commit(self) -> None:
        await self._block.__aexit__(None, None, None)

    async def rollback(self) -> None:
        async with asyncio.timeout(ROLLBACK_TIMEOUT):
            await self._block.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)


def _check(connection: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    if connection.closed:
        _refuse_closed()
    if connection.info.pipeline_status is not pq.PipelineStatus.OFF:
        raise InvalidOption(
            "connection must not be in a pipeline, which hides the state of its transaction; got a psycopg connection "
            "in one. Enqueue before or after the block of connection.pipeline()."
        )
    status = connection.info.transaction_status
    if status is _FAILED:
        _refuse_failed(None)
    if connection.autocommit and status is _IDLE:
        raise InvalidOption(
            "connection must be in a transaction; got a psycopg connection in autocommit. Enqueue inside "
            "connection.transaction(); or omit connection to enqueue in a transaction of its own."
        )


def _refuse_closed() -> NoReturn:
    raise InvalidOption("connection must be open; got a closed psycopg connection.")


def _refuse_failed(error: Exception | None) -> NoReturn:
    raise InvalidOption(
        "The transaction of the given psycopg connection has failed. Roll it back (or its savepoint) before enqueuing."
    ) from error
