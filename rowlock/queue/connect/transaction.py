"""An open transaction, of Rowlock's own or of the caller's: it runs statements by their names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from rowlock.queue.connect import drivers, server_errors
from rowlock.queue.connect.statements import statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy


class OwnTransaction:
    """A transaction of Rowlock's own, on `connection`. `timeout`: of each statement, in seconds; None: the pool's."""

    __slots__ = ("_schema", "_timeout", "connection")

    def __init__(self, connection: PoolConnectionProxy[Record], schema: str, timeout: float | None = None) -> None:
        self.connection = connection
        self._schema = schema
        self._timeout = timeout

    async def run(self, name: str, *parameters: object) -> list[Record]:
        """Run the statement `<name>.sql`. Raises `StatementTimeout`."""
        with server_errors.limited(name):
            sql = statement(name, self._schema)
            return await self.connection.fetch(sql, *parameters, timeout=self._timeout)


class CallersTransaction:
    """The open transaction on the caller's connection, of any driver."""

    __slots__ = ("_caller", "_schema")

    def __init__(self, connection: object, schema: str) -> None:
        self._caller = drivers.adapt(connection)
        self._schema = schema

    async def run(self, name: str, *parameters: object) -> Sequence[Any]:
        """Run the statement `<name>.sql`. Raises the driver's errors."""
        return await self._caller.fetch(statement(name, self._schema), *parameters)


Transaction: TypeAlias = OwnTransaction | CallersTransaction

__all__ = ["CallersTransaction", "OwnTransaction", "Transaction"]
