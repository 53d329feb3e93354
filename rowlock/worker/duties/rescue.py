"""The duties `rescue` and `orphans`: rescue the jobs of workers that are gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rowlock import logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from asyncpg import Record

    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps
    from rowlock.worker.vitals.counts import Counts

log = logs.get_logger("rowlock.worker")

BATCH: Final = 500
UNHELD_PAGES: Final = 8192
"""How much of the table of live jobs `orphans` reads each time: 64 MB of the usual pages."""


async def rescue(connection: ControlConnection, counts: Counts, *, max_crashes: int, orphans: bool = False) -> Steps:
    """Rescue the jobs of workers whose lease has run out, or, for `orphans`, also of workers without a row.

    `orphans` first writes down running jobs that no worker holds.
    """
    if orphans and (jobs := (await connection.fetch("hold_unheld", UNHELD_PAGES))[0]["jobs"]):
        log.warning("jobs_unheld", count=jobs, what="the table holding did not list these running jobs; now it does")
    while True:
        rows = await connection.fetch("rescue", max_crashes, BATCH, orphans)
        if rows:
            _report(rows, counts)
            await connection.fetch("wake", list({row["queue"] for row in rows}))
            await connection.fetch("tell_waiters", [row["id"] for row in rows])
        if len(rows) < BATCH:
            break
        yield
    await connection.fetch("forget_workers")


def _report(rows: Sequence[Record], counts: Counts) -> None:
    """Count and log the rescued jobs."""
    counts.rescued += len(rows)
    counts.quarantined += sum(row["is_quarantined"] for row in rows)
    for row in rows:
        job = {"job_id": str(row["id"]), **{name: row[name] for name in ("queue", "task", "attempt")}}
        job["dead_worker"] = str(row["worker"])
        if row["is_quarantined"]:
            log.error("job_quarantined", **job)
        else:
            log.warning("job_rescued", **job)


__all__ = ["rescue"]
