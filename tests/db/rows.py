"""What the tables say of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

Row: TypeAlias = Mapping[str, Any]


async def row_of(connection: Connection, job_id: UUID) -> Row:
    row = await connection.fetchrow("SELECT * FROM rowlock.jobs WHERE id = $1", job_id)
    assert row is not None, "the job is not there"
    return dict(row)


async def attempts_of(connection: Connection, job_id: UUID) -> list[Row]:
    rows = await connection.fetch("SELECT * FROM rowlock.attempt WHERE job_id = $1 ORDER BY attempt", job_id)
    return [dict(row) for row in rows]


async def states(connection: Connection) -> dict[str, int]:
    """How many jobs there are in each state."""
    rows = await connection.fetch("SELECT state, count(*) FROM rowlock.jobs GROUP BY state")
    return {row["state"]: row["count"] for row in rows}


async def count(connection: Connection) -> int:
    counted: int = await connection.fetchval("SELECT count(*) FROM rowlock.jobs")
    return counted


async def clock(connection: Connection) -> datetime:
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment


def without(row: Row, *columns: str) -> dict[str, Any]:
    """The other columns of a row."""
    return {name: value for name, value in row.items() if name not in columns}
