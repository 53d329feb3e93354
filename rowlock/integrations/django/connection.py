"""Enqueue in a transaction of Django's: `django.db.connection`, or one of `django.db.connections`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from django.db import DatabaseError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.transaction import TransactionManagementError
from django.utils.connection import ConnectionProxy

from rowlock.errors import InvalidOption
from rowlock.integrations.pyformat import IN_FAILED_TRANSACTION, named, pyformat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.connect.drivers import Caller
    from rowlock.queue.finish.transaction import OpenTransaction


def adapt(connection: object) -> Caller:
    """Return Django's connection as a `Caller`: what it runs is part of the transaction that is open there.

    Raises `InvalidOption` outside of `transaction.atomic()`, where each statement is committed by itself, and for
    another database than PostgreSQL.

    >>> with transaction.atomic():
    ...     Customer.objects.create(email="ada@example.com")
    ...     send_email.using(connection=connection).enqueue_sync("ada@example.com", "Hi", "…")
    """
    if isinstance(connection, ConnectionProxy):
        connection = connections[connection._alias]  # noqa: SLF001  # what stands behind django.db.connection
    if not isinstance(connection, BaseDatabaseWrapper):
        raise InvalidOption(
            f"A {type(connection).__qualname__} of Django is no connection: give django.db.connection, or one of "
            "django.db.connections."
        )
    if connection.vendor != "postgresql":
        raise InvalidOption(
            f"Django's connection {connection.alias!r} is to {connection.vendor}: give one to the PostgreSQL "
            "database that holds Rowlock's tables."
        )
    return _Caller(connection)


async def begin(connection: object) -> OpenTransaction:
    """Refuse it: `job.transaction()` works with asynchronous connections."""
    raise InvalidOption(
        f"job.transaction() was given a {type(connection).__qualname__} of Django, which is synchronous: give none, "
        "and it opens a connection of asyncpg."
    )


class _Caller:
    """A connection of Django's, as a `Caller` that never waits."""

    __slots__ = ("_connection",)
    is_synchronous = True

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # Django has no types
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        if self._connection.get_autocommit():
            raise InvalidOption(
                f"Django's connection {self._connection.alias!r} is in autocommit: nothing on it is part of a "
                "transaction. Enqueue inside of transaction.atomic(); or give no connection, and a job is enqueued in "
                "a transaction of its own."
            )
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(pyformat(sql), named(parameters))
                return cursor.fetchall() if cursor.description else ()
        except TransactionManagementError as error:
            _refuse_failed(error)
        except DatabaseError as error:
            cause = error.__cause__
            if IN_FAILED_TRANSACTION in {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)}:
                _refuse_failed(error)
            raise


def _refuse_failed(error: Exception) -> NoReturn:
    raise InvalidOption(
        "The transaction of the given Django connection has failed: roll it back (or its inner block) before enqueuing."
    ) from error
