"""Transactions of Rowlock's own whose plans do not depend on what the planner believes of a table."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from rowlock.queue.connect import server_errors, sessions
from rowlock.queue.connect.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from asyncpg import Record

    from rowlock.queue.connect.database import Database


CUSTOM_PLAN: Final = {"plan_cache_mode": "force_custom_plan"}
"""A generic plan locks the partitions of every day, whichever days its parameters name."""


@asynccontextmanager
async def planned(
    database: Database, settings: Mapping[str, str], *, timeout: float = sessions.LONG_QUERY_TIMEOUT
) -> AsyncIterator[Callable[..., Awaitable[list[Record]]]]:
    """A transaction on one of the application's connections that plans by these settings: gives what runs a statement.

    `timeout`: for each statement, in seconds. Raises `DatabaseUnavailable`, `SchemaNotMigrated`, `StatementTimeout`.
    """
    schema = database.settings.schema
    async with database.connection() as connection:
        try:
            async with sessions.own_transaction(connection):

                async def fetch(name: str, *parameters: Any) -> list[Record]:  # noqa: ANN401  # of any statement
                    with server_errors.limited(name):
                        return await connection.fetch(statement(name, schema), *parameters, timeout=timeout)

                await fetch("plan_safely", list(settings), list(settings.values()))
                yield fetch
        except server_errors.NOT_MIGRATED as error:
            raise server_errors.not_migrated(database.settings) from error


__all__ = ["CUSTOM_PLAN", "planned"]
