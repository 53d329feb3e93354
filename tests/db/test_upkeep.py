"""Duties take turns: none keeps a cancel, an order or another duty waiting, however much there is to do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.connect import sessions
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.duties import overdue
from tests.db.claimants import hold
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


async def enqueue_expired(connection: Connection, jobs: int) -> None:
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, queue, expires_at, ends_at) SELECT rowlock.uuid7(), 'noop', 'elsewhere', "
        "now() - interval '1 second', now() - interval '1 second' FROM generate_series(1, $1)",
        jobs,
    )


async def test_a_cancel_is_heard_and_the_dead_are_rescued_while_many_jobs_expire(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "BATCH", 1)
    began, cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def sleep() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    job = await sleep.enqueue()
    async with app.worker():
        await began.wait()
        await enqueue_expired(connection, 20_000)
        left = "SELECT count(*) FROM rowlock.job WHERE ends_at IS NOT NULL AND state = 'queued'"
        await eventually(lambda: _is_below(connection, left, 20_000))
        orphan = await connection.fetchval(
            "INSERT INTO rowlock.job (id, task, queue, state, attempt, worker) "
            "VALUES ($1, 'noop', 'elsewhere', 'running', 1, $1) RETURNING id",
            uuid7(),
        )
        await hold(connection)
        await connection.execute(
            "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
            "VALUES ($1, 'gone', 1, '1', '{}', '{}', 1, now() - interval '1 minute')",
            orphan,
        )
        assert await app.jobs.cancel(job.id) == "requested"
        await cancelled.wait()
        await eventually(
            lambda: connection.fetchval("SELECT crashes = 1 FROM rowlock.job WHERE id = $1", orphan),
        )
        assert await connection.fetchval(left) > 0, "there is still much to do"


TELLS = {
    "idempotency_key": ("duty_postponed", "keys"),
    "api_session": ("duty_postponed", "keys"),
    "progress": ("duty_postponed", "progress"),
    "schedule_tick": ("duty_postponed", "ticks"),
    "schedule": ("ticks_not_fired", None),
    "task": ("duty_postponed", "results"),
}
"""What the log says of each table that upkeep cannot have, and of which duty."""


@pytest.mark.parametrize("table", TELLS)
async def test_a_cancel_is_heard_and_the_dead_are_rescued_while_a_duty_cannot_have_its_table(
    app: Rowlock, connection: Connection, direct_url: str, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    told = TELLS[table]
    duty = told[1]
    monkeypatch.setattr(sessions, "QUERY_TIMEOUT", 3600.0)  # nothing else ends a wait for a lock
    monkeypatch.setattr(sessions, "LONG_QUERY_TIMEOUT", 3600.0)
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = $1", duty)
    began, cancelled = asyncio.Event(), asyncio.Event()

    @app.task
    async def sleep() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    job = await sleep.enqueue()
    other = await asyncpg.connect(direct_url)
    try:
        async with app.worker():
            await began.wait()
            mode = "EXCLUSIVE" if table == "task" else "ACCESS EXCLUSIVE"  # which no finish could pass
            await other.execute(f"BEGIN; LOCK TABLE rowlock.{table} IN {mode} MODE")
            with capture_logs() as logs:
                await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = $1", duty)
                await eventually(lambda: told in [(entry["event"], entry.get("duty")) for entry in logs])
            orphan = await connection.fetchval(
                "WITH gone AS ("
                "    INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
                "    VALUES ($1, 'gone', 1, '1', '{}', '{}', 1, now() - interval '1 minute')"
                ") INSERT INTO rowlock.job (id, task, queue, state, attempt, worker) "
                "VALUES ($1, 'noop', 'elsewhere', 'running', 1, $1) RETURNING id",
                uuid7(),
            )
            await hold(connection)
            assert await app.jobs.cancel(job.id) == "requested"
            await cancelled.wait()
            await eventually(lambda: connection.fetchval("SELECT crashes = 1 FROM rowlock.job WHERE id = $1", orphan))
            await other.execute("ROLLBACK")
    finally:
        other.terminate()


async def _is_below(connection: Connection, query: str, most: int) -> bool:
    left: int = await connection.fetchval(query)
    return left < most


async def test_many_jobs_that_expire_are_one_line_of_the_log(app: Rowlock, connection: Connection) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'overdue'")
    await enqueue_expired(connection, 2 * overdue.BATCH + 1)
    await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = 'overdue'")
    query = "SELECT count(*) FROM rowlock.finished_job WHERE state = 'expired'"
    with capture_logs() as logs:
        async with app.worker():
            await eventually(lambda: _is_above(connection, query, 2 * overdue.BATCH))
            await eventually(lambda: [entry for entry in logs if "overdue" in entry["event"]])
    (line,) = (entry for entry in logs if "overdue" in entry["event"])
    assert (line["event"], line["count"], line["expired"]) == ("jobs_ended_overdue", 1001, 1001)
    assert len(line["first_ids"]) == 10


async def _is_above(connection: Connection, query: str, least: int) -> bool:
    found: int = await connection.fetchval(query)
    return found > least


async def test_a_partition_that_somebody_keeps_locked_is_made_later_and_the_others_now(
    app: Rowlock, connection: Connection, direct_url: str
) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = 'partitions'")
    await connection.execute(
        "DO $$ DECLARE day text := to_char((clock_timestamp() AT TIME ZONE 'UTC')::date, 'YYYYMMDD'); BEGIN "
        "EXECUTE 'DROP TABLE rowlock.finished_job_' || day; EXECUTE 'DROP TABLE rowlock.attempt_' || day; END $$"
    )
    missing = "SELECT array_agg(archive) FROM rowlock.missing_partitions(0)"
    assert await connection.fetchval(missing) == ["attempt", "finished_job"]
    reader = await asyncpg.connect(direct_url)
    try:
        await reader.execute("BEGIN; LOCK TABLE rowlock.attempt IN ACCESS SHARE MODE")  # a backup, a report
        await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = 'partitions'")
        async with app.worker():
            await eventually(lambda: _is(connection, missing, ["attempt"]))
            again = "SELECT next_run_at < now() + interval '2 minutes' FROM rowlock.duty WHERE name = 'partitions'"
            await eventually(lambda: connection.fetchval(again))
            await reader.execute("COMMIT")
            await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = 'partitions'")
            await eventually(lambda: _is(connection, missing, None))
    finally:
        reader.terminate()


async def _is(connection: Connection, query: str, wanted: object) -> bool:
    return bool(await connection.fetchval(query) == wanted)
