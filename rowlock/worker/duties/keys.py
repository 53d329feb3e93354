"""The duty `keys`: remove expired unique keys, stored responses to HTTP requests, and sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock.worker.duties.steps import going_on

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps

BATCH: Final = 1000


async def forget_keys(connection: ControlConnection) -> Steps:
    """Remove them, a batch a step. If one kind fails, the others go on."""
    for name in ("forget_unique_keys", "forget_idempotency_keys", "forget_sessions"):
        with going_on("keys", statement=name):
            while (await connection.fetch(name, BATCH))[0]["forgotten"] == BATCH:
                yield


__all__ = ["forget_keys"]
