"""One act of an operator: a transaction that ends with its row in `operation`."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, ClassVar, Final, TypeVar

import asyncpg
import msgspec

from rowlock import logs
from rowlock.errors import InvalidOption, LockTimeout
from rowlock.queue.connect.database import ACT_LOCK_WAIT
from rowlock.queue.connect.drivers import OF_ASYNCPG
from rowlock.queue.connect.sessions import CUSTOM_PLAN
from rowlock.queue.connect.transaction import OwnTransaction
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from uuid import UUID

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.connect.database import Database
    from rowlock.queue.jobs.actor import Origin

log = logs.get_logger("rowlock.operators")

A = TypeVar("A", bound="Act")

_PAST: Final = {
    "cancel": "cancelled",
    "create": "created",
    "delete": "deleted",
    "discard": "discarded",
    "drain": "drained",
    "edit": "edited",
    "keep": "kept",
    "pause": "paused",
    "quiet": "quieted",
    "reschedule": "rescheduled",
    "resume": "resumed",
    "retry": "retried",
    "revoke": "revoked",
    "run": "run",
    "run_again": "run_again",
    "scale": "scaled",
    "stop": "told_to_stop",
}


class Act:
    """The transaction of one act."""

    kind: ClassVar[str]
    """The kind of the target, as in `operation.target_kind`."""
    field: ClassVar[str]
    """The log's field for the target's name."""

    def __init__(self, transaction: OwnTransaction, origin: Origin) -> None:
        self.run = transaction.run
        self._connection = transaction.connection
        self._origin = origin
        self.told: list[tuple[str, dict[str, object]]] = []
        """The events to log after the commit, with their fields."""

    async def record(
        self,
        verb: str,
        target: str | None,
        details: Mapping[str, object],
        *,
        operation: UUID | None = None,
        **logged: object,
    ) -> None:
        """Record the act of this transaction: on one target, or without a target on many, as one operation.

        `logged` are additional fields for the log.
        """
        by, source = self._origin.by, self._origin.source
        document = msgspec.json.encode(details, enc_hook=_plain).decode()
        await self.run("record_operation", verb, self.kind, target, by, source, document, operation)
        which = f"{self.kind}s" if target is None else self.kind
        self.told.append((f"{which}_{_PAST[verb]}", {self.field: target, **logged, "by": by, "source": source}))


class ActOnQueue(Act):
    """An act on a queue; the workers are notified."""

    kind = field = "queue"

    async def record(
        self,
        verb: str,
        target: str | None,
        details: Mapping[str, object],
        *,
        operation: UUID | None = None,
        **logged: object,
    ) -> None:
        """Record the act; the commit notifies the workers."""
        await super().record(verb, target, details, operation=operation, **logged)
        await self.run("tell_workers", target)


class ActOnWorker(ActOnQueue):
    """An act on a worker; the worker is notified."""

    kind = field = "worker"


@asynccontextmanager
async def acting(
    database: Database, act: type[A], origin: Origin, connection: PoolConnectionProxy[Record] | None = None
) -> AsyncIterator[A]:
    """Open a transaction for such an act. Raises `LockTimeout` if another transaction locks the target.

    With a `connection`, the act is a part of its open transaction. Raises `InvalidOption` for another value.
    """
    if connection is not None:
        if not isinstance(connection, OF_ASYNCPG):
            raise InvalidOption(
                f"connection must be one of Rowlock's own, of asyncpg; got {quoted(connection)}. Omit it for a "
                "transaction of the call's own.",
                option="connection",
            )
        made = act(OwnTransaction(connection, database.settings.schema), origin)
        yield made
        _tell(made)
        return
    try:
        # READ COMMITTED, whatever the server's default: each statement sees what others committed before it.
        async with database.contended(), database.transaction(plan=CUSTOM_PLAN) as transaction:
            made = act(transaction, origin)
            await made.run("limit_lock_wait", ACT_LOCK_WAIT)
            yield made
    except asyncpg.LockNotAvailableError as error:
        raise LockTimeout(
            f"An open transaction locks the {act.kind} to change, or a table of Rowlock, and did not end within "
            f"{ACT_LOCK_WAIT}. Nothing was changed. Commit it or roll it back, and try again."
        ) from error
    _tell(made)


def _plain(value: object) -> object:
    """A value of a subclass as its class has it, anything else as its text: a detail keeps no act from its record."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return int.__int__(value) if isinstance(value, int) else quoted(value)


def _tell(made: Act) -> None:
    for event, fields in made.told:
        log.info(event, **fields)


__all__ = ["Act", "ActOnQueue", "ActOnWorker", "acting"]
