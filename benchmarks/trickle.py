"""The trickle: single jobs, some time apart, and how long the claim of each takes.

Once with an empty history, and once with many jobs already gone while a read-only transaction, open throughout, keeps
the server from cleaning up after them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from statistics import median, quantiles
from uuid import uuid4

import asyncpg

from benchmarks.tasks import ARGUMENTS, noop
from rowlock import Rowlock, Settings
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection

APART_SECONDS = 0.01
SETTLING_JOBS = 20
BATCH = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Trickle:
    """What the trickle measured, in milliseconds."""

    gone: int
    trickled: int
    empty_history_p50_ms: float
    empty_history_p99_ms: float
    pinned_history_p50_ms: float
    pinned_history_p99_ms: float
    first_claim_after_restart_ms: float


def trickle(gone: int, trickled: int) -> Trickle:
    """Run the trickle twice on a fresh temporary server, with fsync and synchronous_commit on."""
    with temporary_server(durable=True, settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as server:
        settings = replace(Settings(), database_url=server.url)
        upgrade(settings)
        return asyncio.run(_trickle(settings, server.url, gone, trickled))


async def _trickle(settings: Settings, dsn: str, gone: int, trickled: int) -> Trickle:
    app = Rowlock(settings=settings)
    connection = ControlConnection(settings, dsn, purpose="claim")
    reader = await asyncpg.connect(dsn)
    try:
        claims = Claims(connection, ["default"], ["noop"])
        empty = await _claim_one_by_one(app, claims, trickled)
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            await reader.fetch("SELECT count(*) FROM rowlock.job")
            for done in range(0, gone, 20_000):
                await app.enqueue_many(noop.job(*ARGUMENTS) for _ in range(min(20_000, gone - done)))
            await _take_all(claims, connection)
            pinned = await _claim_one_by_one(app, claims, trickled)
            fresh = Claims(connection, ["default"], ["noop"])
            first = (await _claim_one_by_one(app, fresh, 1, settling=0))[0]
    finally:
        await reader.close()
        await connection.close()
        await app.close()
    return Trickle(
        gone=gone,
        trickled=trickled,
        empty_history_p50_ms=round(median(empty), 2),
        empty_history_p99_ms=round(quantiles(empty, n=100)[98], 2),
        pinned_history_p50_ms=round(median(pinned), 2),
        pinned_history_p99_ms=round(quantiles(pinned, n=100)[98], 2),
        first_claim_after_restart_ms=round(first, 2),
    )


async def _take_all(claims: Claims, connection: ControlConnection) -> None:
    worker = uuid4()
    while rows := await claims.claim(worker, BATCH, {}):
        ids, attempts = [row["id"] for row in rows], [row["attempt"] for row in rows]
        await connection.fetch("succeed", worker, ids, attempts, [None] * len(rows), [0.0] * len(rows))


async def _claim_one_by_one(app: Rowlock, claims: Claims, jobs: int, settling: int = SETTLING_JOBS) -> list[float]:
    """Enqueue and claim job after job; return the claims' milliseconds, without the first ones."""
    took: list[float] = []
    worker = uuid4()
    for _ in range(settling + jobs):
        await app.enqueue_many([noop.job(*ARGUMENTS)])
        began = time.perf_counter()
        rows = await claims.claim(worker, BATCH, {})
        took.append((time.perf_counter() - began) * 1000)
        if len(rows) != 1:
            raise RuntimeError(f"A claim found {len(rows)} jobs instead of the one that was enqueued.")
        await asyncio.sleep(APART_SECONDS)
    return took[settling:]
