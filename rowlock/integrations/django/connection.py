"""Enqueue in a Django transaction: `django.db.connection`, or one of `django.db.connections`."""

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
    """Return Django's connection as a `Caller`: its statements are part of the connection's open transaction.

    Raises `InvalidOption` outside of `transaction.atomic()`, where each statement commits by itself, and for a database
    other than PostgreSQL.

    >>> with transaction.atomic():
    ...     Customer.objects.create(email="ada@example.com")
    ...     send_email.using(connection=connection).enqueue_sync("ada@example.com", "Hi", "…")
    """
    if isinstance(connection, ConnectionProxy):
        connection = connections[connection._alias]  # noqa: SLF001  # the connection behind django.db.connection
    if not isinstance(connection, BaseDatabaseWrapper):
        raise InvalidOption(
            f"connection must be one of Django's; got {type(connection).__qualname__}. Pass "
            "django.db.connection, or one of django.db.connections."
        )
    if connection.vendor != "postgresql":
        raise InvalidOption(
            f"connection must be to the PostgreSQL database of Rowlock's tables; got Django's {connection.alias!r}, "
            f"which is to {connection.vendor}."
        )
    return _Caller(connection)


async def begin(connection: object) -> OpenTransaction:
    """Refuse it: `job.transaction()` needs an asynchronous connection."""
    raise InvalidOption(
        f"job.transaction() needs an asynchronous connection; got Django's {type(connection).__qualname__}. Omit it: "
        "job.transaction() then opens a connection of asyncpg."
    )


class _Caller:
    """A Django connection as a `Caller` that never waits."""

    __slots__ = ("_connection",)
    is_synchronous = True

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # Django has no types
        self._connection = connection

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as in the drivers
        if self._connection.get_autocommit():
            raise InvalidOption(
                f"connection must be in a transaction; got Django's {self._connection.alias!r} in autocommit. Enqueue "
                "inside transaction.atomic(); or omit connection to enqueue in a transaction of its own."
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
        "The transaction of the given Django connection has failed. Roll it back (or its inner block) before enqueuing."
    ) from error
