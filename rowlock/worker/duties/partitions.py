"""The duty `partitions`: create the archive's partitions of the coming days."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import asyncpg

from rowlock import logs
from rowlock.worker.duties.steps import going_on

if TYPE_CHECKING:
    from rowlock.queue.connect.sessions import ControlConnection
    from rowlock.worker.duties.steps import Steps

log = logs.get_logger("rowlock.worker")

DAYS_AHEAD: Final = 3
TRY_AGAIN: Final = timedelta(minutes=1)


async def create_partitions(connection: ControlConnection) -> Steps:
    """Create the missing partitions, each in a transaction. Retry the locked ones in a minute."""
    made, locked = 0, list[str]()
    for row in await connection.fetch("missing_partitions", DAYS_AHEAD):
        with going_on("partitions", archive=row["archive"], day=str(row["day"])):
            try:
                made += (await connection.fetch("create_partition", row["archive"], row["day"]))[0]["is_made"]
            except asyncpg.LockNotAvailableError:
                locked.append(f"{row['archive']} {row['day']}")
        yield
    if made:
        log.info("partitions_created", count=made)
    if locked:
        log.warning("partitions_postponed", partitions=locked)
        await connection.fetch("hold_duty", "partitions", TRY_AGAIN)


__all__ = ["create_partitions"]
