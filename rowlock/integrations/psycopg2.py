"""Enqueue in a transaction of psycopg2's."""

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
    """Return a connection as a `Caller`: what it runs is part of the transaction that is open there.

    Where none is open, psycopg2 begins one, as at any first statement: without a commit the job never exists. Raises
    `InvalidOption` for a connection that is closed, in `autocommit`, or asynchronous.
    """
    if isinstance(connection, of_psycopg2.connection):
        if connection.async_:
            raise InvalidOption("The given psycopg2 connection is asynchronous: give an ordinary one.")
        _check(connection)
        return _Caller(connection)
    raise InvalidOption(f"A {type(connection).__qualname__} of psycopg2 is no connection: give its connection.")


async def begin(connection: object) -> OpenTransaction:
    """Refuse it: `job.transaction()` works with asynchronous connections."""
    raise InvalidOption(
        f"job.transaction() was given a {type(connection).__qualname__} of psycopg2, which is synchronous: give none, "
        "and it opens a connection of asyncpg."
    )


class _Caller:
    """A connection, as a `Caller` that never waits."""

    __slots__ = ("_connection",)
    is_synchronous = True

    def __init__(self, connection: of_psycopg2.connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
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
        raise InvalidOption("The given psycopg2 connection is closed: give one that is open.")
    status = connection.get_transaction_status()
    if status == of_psycopg2.TRANSACTION_STATUS_INERROR:
        _refuse_failed(None)
    if connection.autocommit and status == of_psycopg2.TRANSACTION_STATUS_IDLE:
        raise InvalidOption(
            "The given psycopg2 connection is in autocommit: nothing on it is part of a transaction. Turn autocommit "
            "off; or give no connection, and a job is enqueued in a transaction of its own."
        )


def _refuse_failed(error: Exception | None) -> NoReturn:
    raise InvalidOption(
        "The transaction of the given psycopg2 connection has failed: roll it back (or its savepoint) before enqueuing."
    ) from error
