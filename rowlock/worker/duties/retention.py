"""The duty `retention`: remove rows past their retention from the archive, one day in one transaction."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.errors import RowlockError
from rowlock.queue.connect import server_errors
from rowlock.queue.connect.server_errors import message
from rowlock.worker.duties.steps import going_on

if TYPE_CHECKING:
    from datetime import date

    from rowlock.queue.connect.database import Database
    from rowlock.queue.connect.sessions import ControlConnection

log = logs.get_logger("rowlock.worker")

ARCHIVES: Final = ("finished_job", "attempt", "attempt_log")
PORTION: Final = 10_000
"""Rows of a default partition that one transaction removes."""
LONGEST: Final = 3600.0
"""Seconds that one day may take: it can read tens of millions of rows, and copy some of them."""


class RetentionDuty:
    """Remove due rows in a task of its own, so that the worker's other duties do not wait."""

    def __init__(self, connection: ControlConnection, database: Database) -> None:
        self._connection = connection
        self._database = database
        self._running: asyncio.Task[None] | None = None
        self._is_due_again = False

    async def begin(self) -> None:
        """Start the removal. If it runs already, it starts once more when it is done: what is due may have changed."""
        if self._running is not None and self._running.done():
            self._running.result()  # raises a defect, which `remove` does not log
            self._running = None
        self._is_due_again = True
        if self._running is None:
            self._running = asyncio.create_task(self._remove_while_due())

    async def stop(self) -> None:
        """Stop in the middle. The next run continues."""
        if self._running is not None:
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running

    async def _remove_while_due(self) -> None:
        while self._is_due_again:
            self._is_due_again = False
            await self.remove()

    async def remove(self) -> None:
        """Remove due rows and drop empty days. Log a failure and try again next time."""
        try:
            for row in await self._connection.fetch("due_days"):
                with going_on("retention", archive=row["archive"], day=str(row["day"])):
                    await self._retain(row["archive"], row["day"])
            for archive in ARCHIVES:
                with going_on("retention", partition=f"{archive}_default"):
                    await self._retain_default(archive)
            for row in await self._connection.fetch("empty_days"):
                day = {"archive": row["archive"], "day": str(row["day"])}
                with going_on("retention", **day):
                    dropped = await self._database.run("drop_day", row["archive"], row["day"])
                    if not dropped[0]["is_dropped"]:
                        log.info("day_not_dropped", **day)
                        break  # another session reads the archive: each further try would delay the finishes again
                    log.info("day_dropped", **day)
        except (*server_errors.CONNECTION_LOST, RowlockError, asyncpg.PostgresError) as error:
            log.warning("duty_failed", duty="retention", error=type(error).__name__, detail=message(error))

    async def _retain_default(self, archive: str) -> None:
        """Remove due rows from the default partition, a portion at a time, so that other sessions can work between."""
        total, is_more = 0, True
        while is_more:
            (row,) = await self._database.run("retain_default", archive, PORTION)
            total += row["removed"]
            is_more = row["removed"] >= PORTION
        if total:
            log.info("default_partition_retained", archive=archive, removed=total)

    async def _retain(self, archive: str, day: date) -> None:
        async with self._database.transaction(timeout=LONGEST) as transaction:
            (row,) = await transaction.run("retain_day", archive, day)
        match row["done"]:
            case "postponed":
                log.warning("retention_postponed", archive=archive, day=str(day))
            case "emptied":
                log.info("day_emptied", archive=archive, day=str(day))
            case "rewritten":
                log.info("day_rewritten", archive=archive, day=str(day), kept=row["kept"])


__all__ = ["RetentionDuty"]
