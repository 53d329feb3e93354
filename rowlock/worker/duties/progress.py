"""The duty `progress`: remove the progress of jobs that are neither live nor in the archive."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps

BATCH: Final = 5000


async def forget_progress(connection: ControlConnection) -> Steps:
    """Remove it, a batch a step."""
    last: UUID | None = UUID(int=0)
    while last is not None:
        last = (await connection.fetch("forget_progress", last, BATCH))[0]["last"]
        yield


__all__ = ["forget_progress"]
