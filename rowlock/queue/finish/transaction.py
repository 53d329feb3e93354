"""Transactions that commit a handler's own writes and the success of its job together."""

from __future__ import annotations

import asyncio
import importlib
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from rowlock.errors import InvalidOption
from rowlock.queue.connect.drivers import OF_ASYNCPG, adapter_of, check_open
from rowlock.queue.connect.server_errors import hide_values
from rowlock.queue.connect.sessions import PLANNER_SETTINGS, throw_away
from rowlock.queue.connect.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from uuid import UUID

_ENDED: Final = (
    "The transaction of job.transaction() was ended inside its block. Leave commit and rollback to the end of the "
    "block; for a part that may be undone use a savepoint."
)


ROLLBACK_TIMEOUT: Final = 1.0
"""Seconds. A server that does not roll back in time is away, and will do it by itself: the handler must not hang."""


class OpenTransaction(Protocol):
    """A transaction that has begun, of any driver. `given` is the object for the handler's block."""

    given: Any

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        """Run a statement in it. Raises `InvalidOption` if it was ended already."""
        ...

    async def commit(self) -> None:
        """Commit it, with all pending changes of a session."""
        ...

    async def rollback(self) -> None:
        """Roll it back."""
        ...


class _OfAsyncpg:
    """A transaction on a connection of asyncpg."""

    def __init__(self, connection: Any) -> None:  # noqa: ANN401  # a connection, or a pool's proxy for one
        self.given = connection
        self._transaction = connection.transaction()

    async def begin(self) -> None:
        await self._transaction.start()

    async def fetch(self, sql: str, /, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # as the drivers have it
        if not self.given.is_in_transaction():
            raise InvalidOption(_ENDED)
        rows: Sequence[Any] = await self.given.fetch(sql, *parameters)
        return rows

    async def commit(self) -> None:
        await self._transaction.commit()

    async def rollback(self) -> None:
        if self.given.is_in_transaction():
            try:
                async with asyncio.timeout(ROLLBACK_TIMEOUT):
                    await self._transaction.rollback()
            except TimeoutError:
                self.given.terminate()
                raise


async def begin(connection: object) -> OpenTransaction:
    """Begin a transaction on a connection, or take over the one that SQLAlchemy has begun in a session of its own.

    Raises `InvalidOption` for an unknown kind, or an unusable connection.
    """
    if isinstance(connection, OF_ASYNCPG):
        check_open(connection)
        if connection.is_in_transaction():
            raise InvalidOption(
                "The given asyncpg connection is in a transaction already. Give job.transaction() one that is not, "
                "because it commits at the end of its block."
            )
        transaction = _OfAsyncpg(connection)
        await transaction.begin()
        return transaction
    module = importlib.import_module(adapter_of(connection))
    return cast("OpenTransaction", await module.begin(connection))


@asynccontextmanager
async def begun(
    connection: object, own: AbstractAsyncContextManager[Any] | None = None
) -> AsyncIterator[OpenTransaction]:
    """A transaction on the given connection, or on one that `own` opens: rolled back if the block ends in an error.

    The block commits it.
    """
    if own is not None:
        async with own as opened, begun(opened) as transaction:
            try:
                yield transaction
            except asyncio.CancelledError:
                throw_away(opened)  # the server rolls back: to ask it to, and wait, could take as long as a dead link
                raise
        return
    transaction = await begin(connection)
    try:
        yield transaction
    except BaseException:
        with suppress(Exception):  # the connection is lost, or the commit has failed: there is nothing left to undo
            await transaction.rollback()
        raise


async def record_success(
    transaction: OpenTransaction,
    schema: str,
    *,
    worker: UUID,
    job_id: UUID,
    attempt: int,
    result: str | None,
    elapsed: float,
) -> bool:
    """Record the success of an attempt as a part of the transaction; False if the attempt is no longer the job's.

    Errors of the driver come without the parameters, one of which is the result.
    """
    names, values = list(PLANNER_SETTINGS), list(PLANNER_SETTINGS.values())
    try:
        await transaction.fetch(statement("plan_safely", schema), names, values)
        rows = await transaction.fetch(statement("succeed", schema), worker, [job_id], [attempt], [result], [elapsed])
    except Exception as error:
        hide_values(error)
        raise
    return all(row[0] is None for row in rows)  # seam: fence of transactions


__all__ = ["OpenTransaction", "begin", "begun", "record_success"]
