"""The duty `overdue`: end waiting jobs that expired, passed their deadline, or have a cancel request."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rowlock import logs

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps
    from rowlock.worker.vitals.counts import Counts

log = logs.get_logger("rowlock.worker")

BATCH: Final = 500
FIRST_IDS: Final = 10
"""How many of the ended jobs the log names."""


async def end_overdue(connection: ControlConnection, counts: Counts) -> Steps:
    """End them, a batch a step. Log all of them as one event, also if the duty fails."""
    ended, first = Counter[str](), list[str]()
    try:
        while True:
            rows = await connection.fetch("end_overdue", BATCH)
            ended.update(row["state"] for row in rows)
            counts.ended_overdue.update(row["state"] for row in rows)
            first += [str(row["id"]) for row in rows[: FIRST_IDS - len(first)]]
            if rows:
                await connection.fetch("tell_waiters", [row["id"] for row in rows])
            if len(rows) < BATCH:
                break
            yield
    finally:
        if ended:
            log.info("jobs_ended_overdue", count=ended.total(), first_ids=first, **ended)


__all__ = ["end_overdue"]
