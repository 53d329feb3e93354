"""The duty `ticks`: remove the records of the schedules' old ticks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock import logs

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

KEPT: Final = 1000
KEPT_FOR: Final = timedelta(days=7)


async def prune_ticks(connection: ControlConnection) -> None:
    """Remove all but the newest records."""
    pruned = (await connection.fetch("prune_ticks", KEPT, KEPT_FOR))[0]["pruned"]
    if pruned:
        log.info("ticks_pruned", count=pruned)


__all__ = ["prune_ticks"]
