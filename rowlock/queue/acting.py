"""One act of an operator: a transaction that ends with its row in `operation`, and with word to the workers."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec
import structlog

from rowlock.queue import connections
from rowlock.queue.statements import statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.client import Client
    from rowlock.queue.origin import Origin

log = structlog.get_logger("rowlock.operators")

_PAST: Final = {"pause": "paused", "resume": "resumed", "drain": "drained", "scale": "scaled"}


class Acting:
    """The transaction of one act on a queue or a worker."""

    def __init__(self, connection: PoolConnectionProxy[Record], schema: str, kind: str, origin: Origin) -> None:
        self._connection = connection
        self._schema = schema
        self._kind = kind
        self._origin = origin
        self.told: list[tuple[str, dict[str, Any]]] = []
        """What to log once it is committed: the event and its fields."""

    async def fetch(self, name: str, *parameters: object) -> list[Record]:
        """Run a statement."""
        return await self._connection.fetch(statement(name, self._schema), *parameters)

    async def record(self, verb: str, target: str, details: Mapping[str, object]) -> None:
        """Write down what is done in this transaction, and tell the workers once it is committed."""
        by, source = self._origin.by, self._origin.source
        document = msgspec.json.encode(details).decode()
        await self.fetch("record_operation", verb, self._kind, target, by, source, document, None)
        await self.fetch("tell_workers", target)
        self.told.append((f"{self._kind}_{_PAST[verb]}", {self._kind: target, "by": by, "source": source}))


@asynccontextmanager
async def acting(client: Client, kind: str, origin: Origin) -> AsyncIterator[Acting]:
    """A transaction for an act on something of this kind: `queue` or `worker`."""
    async with client.connection() as connection:
        try:
            # READ COMMITTED, whatever the server's default: each statement sees what others committed before it.
            async with connections.own_transaction(connection):
                act = Acting(connection, client.settings.schema, kind, origin)
                yield act
        except connections.NOT_MIGRATED as error:
            raise connections.not_migrated(client.settings) from error
    for event, fields in act.told:
        log.info(event, **fields)


__all__ = ["Acting", "acting"]
