"""Workers that die, and the jobs that they held."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Settings
from rowlock.queue.jobs.identifiers import uuid7
from tests.db.claimants import hold
from tests.db.rows import row_of

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


async def with_busy_upkeep(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of workers that do their duties many times a second, with leases as long as ever."""
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.05)
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE rowlock.duty SET every = '50 ms'")
    await connection.close()
    return Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))


async def add_worker(connection: Connection, expires_in: timedelta) -> UUID:
    worker = uuid7()
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "VALUES ($1, 'elsewhere', 1, '0', '{}', '{}', 1, now() + $2::interval)",
        worker,
        expires_in,
    )
    return worker


async def hand_to(connection: Connection, worker: UUID, *jobs: UUID) -> None:
    """What a claim does, for a worker that is not there."""
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = attempt + 1, worker = $1, started_at = now() "
        "WHERE id = ANY($2)",
        worker,
        jobs,
    )
    await hold(connection)


async def die_with(connection: Connection, *jobs: UUID) -> UUID:
    """A worker takes the jobs, and its lease runs out."""
    worker = await add_worker(connection, timedelta(seconds=-10))
    await hand_to(connection, worker, *jobs)
    return worker


async def is_rescued(connection: Connection, job: UUID) -> bool:
    return bool((await row_of(connection, job))["state"] != "running")


async def expire(connection: Connection, worker: UUID) -> None:
    await connection.execute("UPDATE rowlock.worker SET expires_at = now() - interval '5 s' WHERE id = $1", worker)
