"""Idempotency: answer a request once, and repeat the stored answer to the same idempotency key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.connect.database import Database
    from rowlock.queue.connect.transaction import OwnTransaction

    Connection: TypeAlias = PoolConnectionProxy[Record]
    """A connection of Rowlock's own, in a transaction."""

KEPT: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a request: the status, the body, and its job."""

    status: int
    body: str
    job_id: UUID
    is_repeated: bool = False


async def answer_once(
    database: Database,
    key: bytes,
    fingerprint: bytes,
    give: Callable[[PoolConnectionProxy[Record]], Awaitable[Answer]],
) -> Answer | None:
    """Give an answer, or return the stored answer of the same key; None if that belongs to another request.

    `key` and `fingerprint` are hashes. The work of `give` over the connection commits together with the answer; if
    `give` raises, neither is stored, and the key is free. Concurrent requests with the same key wait for the first.
    Raises `LockTimeout`.
    """

    async def once(own: OwnTransaction) -> Answer | Record:
        if await own.run("take_answer_key", key, fingerprint, KEPT):
            answer = await give(own.connection)
            await own.run("keep_answer", key, answer.status, answer.body, answer.job_id)
            return answer
        (row,) = await own.run("get_answer", key)
        return row

    row = await database.in_contended_transaction(once, "the idempotency key, or the unique key")
    if isinstance(row, Answer):
        return row
    if row["fingerprint"] != fingerprint:
        return None
    return Answer(status=row["status"], body=row["body"], job_id=row["job_id"], is_repeated=True)
