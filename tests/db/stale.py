"""Making an attempt stale: what a rescue and the next claim do of a job whose worker is thought dead."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID

    import asyncpg


async def take_away(connection: asyncpg.Connection[asyncpg.Record], job_id: UUID) -> None:
    """Let another worker, one that is alive, run the next attempt of this job."""
    await connection.execute(
        "WITH other AS ("
        "    INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "    VALUES (gen_random_uuid(), 'other', 1, '1', '{}', '{}', 1, now() + interval '1 hour') RETURNING id"
        ") UPDATE rowlock.job SET attempt = attempt + 1, worker = other.id FROM other WHERE job.id = $1",
        job_id,
    )
