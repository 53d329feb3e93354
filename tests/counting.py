"""Counting the statistics by hand, in tests whose workers count too."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import asyncpg

if TYPE_CHECKING:
    from rowlock.worker.duties.statistics import StatisticsDuty

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


async def count_alone(connection: Connection, statistics: StatisticsDuty) -> None:
    """Count once nobody else does: the count of a worker that was stopped may hold the marks for a moment."""
    await connection.execute("SELECT FROM rowlock.statistic_mark FOR UPDATE")
    await statistics.count()
