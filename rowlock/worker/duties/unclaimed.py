"""The duty `unclaimed`: warn about due jobs that no live worker would claim."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock import logs

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

WARN_AFTER: Final = timedelta(seconds=30)
"""How long a job is due before the warning: workers come and go in a deploy."""
MOST_KINDS: Final = 20
MOST_LOOKED_AT: Final = 1000


async def warn_of_unclaimed(connection: ControlConnection) -> None:
    """Log one warning for each kind of such jobs, with the reason."""
    for row in await connection.fetch("doctor_unclaimed", MOST_KINDS, MOST_LOOKED_AT):
        if row["waiting"] >= WARN_AFTER:
            kind = {name: row[name] for name in ("task", "args_version", "queue", "jobs", "why")}
            log.warning("job_unclaimed", **kind, waiting=round(row["waiting"].total_seconds()))


__all__ = ["warn_of_unclaimed"]
