"""Enqueue in a psycopg2 transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

import psycopg2
import psycopg2.extensions as of_psycopg2

from rowlock.errors import InvalidOption
from rowlock.integrations.pyformat import IN_FAILED_TRANSACTION, named, pyformat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.connect.drivers import Caller
    from rowlock.queue.finish.transaction import OpenTransaction


def adapt(connection: object) -> Caller:
    """Return a connection as a `Caller`: its statements are part of the connection's open transaction.

    Without an open transaction, psycopg2 begins one, as at any first statement: without a commit the job never exists.
    Raises `InvalidOption` for a connection that is closed, in `autocommit`, or asynchronous.
    """
    if isinstance(connection, of_psycopg2.connection):
        if connection.async_:
            raise InvalidOption("connection must be synchronous; got an asynchronous psycopg2 connection.")
        _check(connection)
        return _Caller(connection)
    raise InvalidOption(f"connection must be a connection of psycopg2; got its {type(connection).__qualname__}.")


async def begin(connection: object) -> OpenTransaction:
    """Refuse it: `job.transaction()` needs an asynchronous connection."""
    raise InvalidOption(
        f"job.transaction() needs an asynchronous connection; got psycopg2's {type(connection).__qualname__}. Omit it: "
        "job.transaction() then opens a connection of asyncpg."
    )


class _Caller:
    """A connection as a `Caller` that never waits."""

    __slots__ = ("_connection",)
    is_synchronous = True

    def __init__(self, connection: of_psycopg2.connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        _check(self._connection)
        with self._connection.cursor(cursor_factory=of_psycopg2.cursor) as cursor:
            try:
                cursor.execute(pyformat(sql), named(parameters))
            except psycopg2.Error as error:
                if error.pgcode == IN_FAILED_TRANSACTION:
                    _refuse_failed(error)
                raise
            return cursor.fetchall() if cursor.description else ()


def _check(connection: of_psycopg2.connection) -> None:
    if connection.closed:
        raise InvalidOption("connection must be open; got a closed psycopg2 connection.")
    status = connection.get_transaction_status()
    if status == of_psycopg2.TRANSACTION_STATUS_INERROR:
        _refuse_failed(None)
    if connection.autocommit and status == of_psycopg2.TRANSACTION_STATUS_IDLE:
        raise InvalidOption(
            "connection must be in a transaction; got a psycopg2 connection in autocommit. Turn autocommit off; or "
            "omit connection to enqueue in a transaction of its own."
        )


def _refuse_failed(error: Exception | None) -> NoReturn:
    raise InvalidOption(
        "The transaction of the given psycopg2 connection has failed. Roll it back (or its savepoint) before enqueuing."
    ) from error
