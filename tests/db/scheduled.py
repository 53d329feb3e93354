"""Schedules, and what a worker fires their ticks with."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import asyncpg

from rowlock import Rowlock
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.ticker import Ticker

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
HOURLY = "0 * * * *"
SKIPPED = "*/30 2 * 3 7L"  # in Berlin, the hour that the clocks skip


class fresh_ticker:  # noqa: N801  # used like a function
    def __init__(self, app: Rowlock, *tasks: str) -> None:
        assert app.settings.database_url is not None
        self._connection = ControlConnection(app.settings, app.settings.database_url, purpose="test")
        self._ticker = Ticker(self._connection, {name: app.tasks[name] for name in tasks or app.tasks})

    async def __aenter__(self) -> Ticker:
        return self._ticker

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def set_back(connection: Connection, name: str, ago: timedelta | datetime) -> None:
    """Let the schedule look as if nobody had handled its ticks for so long, or since then."""
    if isinstance(ago, timedelta):
        await connection.execute(
            "UPDATE rowlock.schedule SET next_run_at = clock_timestamp() - $2::interval WHERE name = $1", name, ago
        )
    else:
        await connection.execute("UPDATE rowlock.schedule SET next_run_at = $2 WHERE name = $1", name, ago)


async def jobs(connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch("SELECT * FROM rowlock.job ORDER BY id")


async def operations(connection: Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch("SELECT verb, target, by, source, details FROM rowlock.operation ORDER BY id")
    return [(row["verb"], row["target"], row["by"], row["source"], json.loads(row["details"])) for row in rows]


async def now(connection: Connection) -> datetime:
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


async def fired_one(ticker: Ticker) -> bool:
    before = ticker.fired
    await ticker.fire_due()
    return ticker.fired > before
