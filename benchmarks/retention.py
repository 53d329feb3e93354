"""Retention: how long it takes until a day of millions of finished jobs is gone, and who waits for it meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import asyncpg

from rowlock import Rowlock, Settings
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7

APART_SECONDS = 0.002
DAY: date = datetime.now(UTC).date() - timedelta(days=3)
FINISH = """
    INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, max_attempts,
                                      errors, priority, queue, args)
    VALUES ($1, 'noop', 'succeeded', 1, 0, now(), now(), now(), 10, 0, 5, 'default', '{}')
"""
"""What the last step of a finish does: from a connection of its own, so that nothing but locks is waited for."""
FILL = """
    INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, started_at, finished_at,
                                      worker, max_attempts, errors, priority, queue, args, result)
    SELECT rowlock.uuid7(), 'send_email', CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'succeeded' END, 1, 0, at, at, at,
           at, gen_random_uuid(), 10, 0, 5,
           CASE WHEN n % 100 = 1 THEN 'one' WHEN n % 100 BETWEEN 2 AND 11 THEN 'ten' ELSE 'email' END,
           '{"recipient": "ada@example.com", "subject": "Hi"}', '{"sent": true}'
      FROM (
           SELECT n, $2::date::timestamp AT TIME ZONE 'UTC' + n * (interval '86399 s' / $1::bigint) AS at
             FROM generate_series(1, $1::bigint) AS n
           ) AS given
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retained:
    """What was measured: how long each took, and the longest that a finish and a read of one old job took meanwhile.

    Everything is gone for others before its files are: the server removes these after the commit.
    """

    jobs: int
    partition_gigabytes: float
    usual_finish_ms: float
    usual_read_ms: float
    one_percent_by_outcome_s: float
    one_percent_by_outcome_finish_ms: float
    one_percent_by_outcome_read_ms: float
    one_percent_by_queue_s: float
    one_percent_by_queue_finish_ms: float
    one_percent_by_queue_read_ms: float
    ten_percent_by_queue_s: float
    ten_percent_by_queue_finish_ms: float
    ten_percent_by_queue_read_ms: float
    everything_gone_ms: float
    everything_files_ms: float
    everything_finish_ms: float
    everything_read_ms: float
    drop_ms: float


@dataclass(slots=True)
class Longest:
    """The longest that a finish and a read have taken, in seconds."""

    finish: float = 0.0
    read: float = 0.0


def retention(jobs: int) -> Retained:
    """Fill one day with so many jobs, on a fresh durable server, and remove most of it, then all of it."""
    with temporary_server(durable=True, settings={"shared_buffers": "1GB", "max_wal_size": "8GB"}) as server:
        upgrade(Settings(database_url=server.url))
        return asyncio.run(_retention(server.url, jobs))


async def _retention(url: str, jobs: int) -> Retained:
    connection = await asyncpg.connect(url)
    async with Rowlock(url) as app:
        await connection.execute("SELECT rowlock.create_partition('finished_job', $1)", DAY)
        await connection.execute(FILL, jobs, DAY, timeout=3600)
        await connection.execute("VACUUM (ANALYZE) rowlock.finished_job", timeout=3600)
        size = await connection.fetchval("SELECT bytes FROM rowlock.archive_day WHERE day = $1 LIMIT 1", DAY)
        async with _others(url) as usual:
            await asyncio.sleep(3)
        await app.retention.keep("*", succeeded=3600)
        outcome = await _remove(connection, url)
        await app.retention.keep("*", succeeded=3600, failed=3600, cancelled=3600, expired=3600)
        await app.retention.keep("one", succeeded="forever", failed="forever")
        one = await _remove(connection, url)
        await app.retention.keep("one", succeeded="default", failed="default")
        await app.retention.keep("ten", succeeded="forever", failed="forever")
        ten = await _remove(connection, url)
        await app.retention.keep("ten", succeeded="default", failed="default")
        watching = asyncio.create_task(_until_gone(url))
        everything = await _remove(connection, url, for_good=True)
        gone = await watching - everything[2]
        began = time.perf_counter()
        await connection.fetch(statement("drop_day", "rowlock"), "finished_job", DAY)
        dropped = time.perf_counter() - began
    await connection.close()
    return Retained(
        jobs=jobs,
        partition_gigabytes=round(size / 1e9, 2),
        usual_finish_ms=round(usual.finish * 1000, 1),
        usual_read_ms=round(usual.read * 1000, 1),
        **_told("one_percent_by_outcome", outcome),
        **_told("one_percent_by_queue", one),
        **_told("ten_percent_by_queue", ten),
        everything_gone_ms=round(gone * 1000, 1),
        everything_files_ms=round(everything[0] * 1000, 1),
        everything_finish_ms=round(everything[1].finish * 1000, 1),
        everything_read_ms=round(everything[1].read * 1000, 1),
        drop_ms=round(dropped * 1000, 1),
    )


async def _until_gone(url: str) -> float:
    """When another connection sees nothing of that day any more."""
    connection = await asyncpg.connect(url)
    query = f"SELECT EXISTS (SELECT FROM rowlock.finished_job_{DAY:%Y%m%d})"
    while await connection.fetchval(query, timeout=600):  # noqa: ASYNC110  # no notification
        await asyncio.sleep(APART_SECONDS)
    gone_at = time.perf_counter()
    await connection.close()
    return gone_at


def _told(name: str, measured: tuple[float, Longest, float]) -> dict[str, Any]:
    took, longest, _ = measured
    finish, read = round(longest.finish * 1000, 1), round(longest.read * 1000, 1)
    return {f"{name}_s": round(took, 2), f"{name}_finish_ms": finish, f"{name}_read_ms": read}


async def _remove(
    connection: asyncpg.Connection[asyncpg.Record], url: str, *, for_good: bool = False
) -> tuple[float, Longest, float]:
    """Do what is due, and undo it unless it is for good: how long it took, what others saw, and when it began."""
    transaction = connection.transaction()
    async with _others(url) as longest:
        began = time.perf_counter()
        await transaction.start()
        sql = statement("retain_day", "rowlock")
        ((done, _),) = await connection.fetch(sql, "finished_job", DAY, timeout=3600)
        await (transaction.commit() if for_good else transaction.rollback())
        took = time.perf_counter() - began
    if done not in {"emptied", "rewritten"}:
        raise RuntimeError(f"the day was not removed, but {done}")
    return took, longest, began


@asynccontextmanager
async def _others(url: str) -> AsyncIterator[Longest]:
    """One who finishes jobs and one who reads old ones, for the time of the block."""
    longest = Longest()

    async def finish() -> None:
        connection = await asyncpg.connect(url)
        try:
            while True:
                began = time.perf_counter()
                await connection.execute(FINISH, uuid7(), timeout=600)
                longest.finish = max(longest.finish, time.perf_counter() - began)
                await asyncio.sleep(APART_SECONDS)
        finally:
            connection.terminate()

    async def read() -> None:
        connection = await asyncpg.connect(url)
        try:
            while True:
                began = time.perf_counter()
                await connection.fetch(statement("get_job", "rowlock"), uuid7(), timeout=600)
                longest.read = max(longest.read, time.perf_counter() - began)
                await asyncio.sleep(APART_SECONDS)
        finally:
            connection.terminate()

    others = [asyncio.create_task(finish()), asyncio.create_task(read())]
    await asyncio.sleep(0.2)
    longest.finish = longest.read = 0.0
    try:
        yield longest
        await asyncio.sleep(0.2)
    finally:
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
