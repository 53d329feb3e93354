"""Jobs with unique keys, and the passing of their times."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TypeAlias, TypeVar
from uuid import UUID

import asyncpg

from rowlock import JobHandle, NewJob, Rowlock
from rowlock.queue.connect.drivers import or_own

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


R = TypeVar("R")


async def enqueue(app: Rowlock, job: NewJob[R], way: str, connection: Connection) -> JobHandle[R]:
    """One job, by one of the ways in; returns its handle."""
    if way == "alone":
        stored = await app.store.enqueue(job)
        return (await app.by_name.handles([job], {} if stored == job.id else {job.id: stored}, None))[0]
    return (await app.enqueue_many([job], connection=or_own(connection if way == "insert" else None)))[0]


async def args_of(connection: Connection, job_id: UUID) -> object:
    return json.loads(await connection.fetchval("SELECT args FROM rowlock.job WHERE id = $1", job_id))


async def count(connection: Connection) -> int:
    counted: int = await connection.fetchval("SELECT count(*) FROM rowlock.job")
    return counted


async def run_out(connection: Connection) -> None:
    """Let the time of all periods pass."""
    await connection.execute(
        "UPDATE rowlock.unique_key SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL"
    )


async def pass_time(connection: Connection) -> None:
    """Let the time of all jobs be over that have a limit, as if they had been enqueued an hour ago."""
    await connection.execute(
        "UPDATE rowlock.job SET ends_at = ends_at - interval '1 hour', expires_at = expires_at - interval '1 hour', "
        "deadline = deadline - interval '1 hour', created_at = created_at - interval '1 hour', "
        "run_at = run_at - interval '1 hour'"
    )
