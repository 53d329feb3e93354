"""A worker that is registered and does nothing by itself: tests claim in its name, or by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

CLAIMANT: Final = UUID("01900000-0000-7000-8000-00000000c1a1")


async def register(connection: asyncpg.Connection[asyncpg.Record], worker: UUID = CLAIMANT) -> UUID:
    """Register the worker, with a lease of an hour. Returns its id."""
    await connection.execute(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, lease, expires_at) "
        "VALUES ($1, 'elsewhere', 1, '0', '{}', '{}', 1, '1 hour', now() + interval '1 hour')",
        worker,
    )
    return worker


async def hold(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Write down what each worker holds, as its claim does: for running jobs that a test has made by hand."""
    await connection.execute(
        "INSERT INTO rowlock.holding (worker, number, ids) "
        "SELECT worker, 0, array_agg(id) FROM rowlock.job WHERE state = 'running' GROUP BY worker "
        "ON CONFLICT ON CONSTRAINT holding_pkey DO UPDATE SET ids = excluded.ids"
    )
