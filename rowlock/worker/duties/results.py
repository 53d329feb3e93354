"""The duty `results`: remove expired results."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from rowlock import logs
from rowlock.queue.connect.sessions import CUSTOM_PLAN
from rowlock.worker.duties.steps import SHORT_WAIT, going_on

if TYPE_CHECKING:
    from rowlock.queue.connect.database import Database
    from rowlock.worker.duties.steps import Steps

log = logs.get_logger("rowlock.worker")

BATCH: Final = 2000
FIRST_PART: Final = timedelta(minutes=1)
LONGEST_PART: Final = timedelta(days=365)
"""The due time span is split into parts: short ones where many results are due, long ones where few are."""


async def remove_results(database: Database) -> Steps:
    """Remove the results that came due since the last run, part by part.

    On the application's connections: finding a window of time needs a bitmap scan, which control connections avoid.
    """
    async with database.transaction(plan=SHORT_WAIT) as transaction:
        tasks = await transaction.run("expired_results")
    for task in tasks:
        part, removed, is_last = FIRST_PART, 0, False
        with going_on("results", task=task["name"]):
            while not is_last:
                async with database.transaction(plan=CUSTOM_PLAN | SHORT_WAIT) as transaction:
                    due = await transaction.run("due_results", task["name"], part)
                    if not due:
                        break
                    since, until, is_last = due[0]
                    ((count,),) = await transaction.run("remove_results", task["name"], since, until, BATCH)
                removed += count
                is_full = count >= BATCH
                is_last = is_last and not is_full
                part = part / 4 if is_full else min(part * 2, LONGEST_PART)
                yield
        if removed:
            log.info("results_removed", task=task["name"], count=removed)


__all__ = ["remove_results"]
