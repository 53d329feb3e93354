"""What workers hold: which rows say so, how long they stay, and what is found by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import JobFilter, Rowlock, Settings
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from tests.db.claimants import CLAIMANT, register
from tests.db.dead_workers import add_worker, expire, hand_to, with_busy_upkeep
from tests.db.rows import states
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

LISTED = "SELECT coalesce(array_agg(cardinality(ids) ORDER BY cardinality(ids)), '{}') FROM rowlock.holding"


@pytest.fixture
async def control(settings: Settings) -> AsyncIterator[ControlConnection]:
    connection = ControlConnection(settings, settings.database_url or "", purpose="claim")
    yield connection
    await connection.close()


@pytest.fixture
async def claims(control: ControlConnection, connection: Connection) -> Claims:
    await register(connection)
    return Claims(control, ["default"], ["noop"])


async def enqueue(connection: Connection, jobs: int) -> None:
    await connection.execute("SELECT rowlock.enqueue('noop') FROM generate_series(1, $1::integer)", jobs)


async def succeed(connection: Connection, claims: Claims, rows: list[asyncpg.Record]) -> None:
    """Record the outcomes, and let the claims know, as a worker does."""
    ids, attempts = [row["id"] for row in rows], [row["attempt"] for row in rows]
    times = [0.0] * len(rows)
    await connection.fetch(statement("succeed", "rowlock"), CLAIMANT, ids, attempts, [None] * len(rows), times)
    claims.holdings.ended(rows)


async def test_a_claim_writes_down_what_its_worker_holds_until_all_of_it_has_ended(
    claims: Claims, connection: Connection
) -> None:
    await enqueue(connection, 6)
    first = await claims.claim(CLAIMANT, 3, {})
    held = "SELECT array_agg(id ORDER BY id) FROM rowlock.holding CROSS JOIN unnest(ids) AS id WHERE worker = $1"
    assert await connection.fetchval(held, CLAIMANT) == sorted(row["id"] for row in first)
    await succeed(connection, claims, first[:2])
    second = await claims.claim(CLAIMANT, 1, {})
    assert await connection.fetchval(LISTED) == [1, 3], "one of the first claim runs"
    await succeed(connection, claims, first[2:])
    await succeed(connection, claims, second)
    assert await connection.fetchval(LISTED) == [1, 3], "the next claim removes them"
    await claims.claim(CLAIMANT, 2, {})
    assert await connection.fetchval(LISTED) == [2]


async def test_a_claim_that_finds_nothing_writes_nothing(claims: Claims, connection: Connection) -> None:
    await enqueue(connection, 1)
    await succeed(connection, claims, await claims.claim(CLAIMANT, 1, {}))
    claims.groups[0].took = 0.0  # after a slow claim it takes a transaction id, so that its cursors can settle
    before = await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text")
    assert await claims.claim(CLAIMANT, 1, {}, looks_ahead=True) == []
    assert await connection.fetchval("SELECT pg_snapshot_xmax(pg_current_snapshot())::text") == before
    assert await connection.fetchval(LISTED) == [1]


async def test_after_a_reconnect_the_rows_stay_of_what_another_server_may_not_know_to_have_ended(
    settings: Settings, connection: Connection
) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task
        async def noop() -> None: ...

        async with app.worker() as worker:
            await (await noop.enqueue()).result(timeout=10)
            await eventually(worker._shift.claims.holdings.over)
            await worker._shift.links.claim.discard()
            await (await noop.enqueue()).result(timeout=10)
            assert await connection.fetchval(LISTED) == [1, 1]


async def test_of_a_large_claim_the_row_keeps_what_still_runs(claims: Claims, connection: Connection) -> None:
    await enqueue(connection, 100)
    rows = await claims.claim(CLAIMANT, 100, {})
    await succeed(connection, claims, rows[1:60])
    await claims.trim(CLAIMANT)
    assert await connection.fetchval(LISTED) == [100], "too many run"
    await succeed(connection, claims, rows[60:])
    await claims.trim(CLAIMANT)
    assert await connection.fetchval("SELECT ids FROM rowlock.holding") == [rows[0]["id"]]
    await succeed(connection, claims, rows[:1])
    await enqueue(connection, 1)
    await claims.claim(CLAIMANT, 1, {})
    assert await connection.fetchval(LISTED) == [1]


async def test_a_server_that_has_lost_outcomes_decides_what_a_shortened_row_keeps(
    claims: Claims, connection: Connection
) -> None:
    await enqueue(connection, 100)
    claims.holdings.ended((await claims.claim(CLAIMANT, 100, {}))[1:])  # it knows nothing of these outcomes
    await claims.trim(CLAIMANT)
    assert await connection.fetchval(LISTED) == [100]


async def test_behind_a_pooler_a_row_stays_while_the_server_says_that_its_job_runs(
    settings: Settings, connection: Connection
) -> None:
    await register(connection)
    control = ControlConnection(replace(settings, listen=False), settings.database_url or "", purpose="claim")
    claims = Claims(control, ["default"], ["noop"])
    await enqueue(connection, 2)
    claims.holdings.ended(await claims.claim(CLAIMANT, 1, {}))  # the server has lost the outcome, and nothing tells
    await claims.claim(CLAIMANT, 1, {})
    assert await connection.fetchval(LISTED) == [1, 1]
    await control.close()


async def test_claims_write_to_no_index_of_the_jobs(settings: Settings, connection: Connection) -> None:
    async with Rowlock(settings=settings) as app:

        @app.task
        async def noop() -> None: ...

        await app.enqueue_many(noop.job() for _ in range(2000))
        await app.worker().drain()
    await connection.execute("SELECT pg_stat_force_next_flush()")
    updated = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'rowlock.job'::regclass"

    async def is_counted() -> bool:
        row = await connection.fetchrow(updated)
        return row is not None and row["n_tup_upd"] >= 2000

    await eventually(is_counted)
    row = await connection.fetchrow(updated)
    assert row is not None
    assert row["n_tup_hot_upd"] >= 0.95 * row["n_tup_upd"]


async def test_running_jobs_that_nobody_holds_are_found_and_rescued(
    database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await enqueue(connection, 2)
    worker = await add_worker(connection, timedelta(seconds=-10))
    jobs = [row["id"] for row in await connection.fetch("SELECT id FROM rowlock.job")]
    await hand_to(connection, worker, *jobs)
    await connection.execute("DELETE FROM rowlock.holding")
    settings = await with_busy_upkeep(database_url, monkeypatch)
    async with Rowlock(settings=settings) as app, app.worker():
        await eventually(lambda: connection.fetchval("SELECT count(*) = 2 FROM rowlock.job WHERE crashes = 1"))


async def test_what_a_worker_held_is_forgotten_with_it_but_not_before(
    control: ControlConnection, connection: Connection
) -> None:
    await enqueue(connection, 1)
    job: UUID = await connection.fetchval("SELECT id FROM rowlock.job")
    worker = await add_worker(connection, timedelta(hours=1))
    await hand_to(connection, worker, job)
    await control.fetch("forget_workers")
    assert await connection.fetchval(LISTED) == [1], "its lease holds"
    await expire(connection, worker)
    await control.fetch("forget_workers")
    assert await connection.fetchval(LISTED) == [1], "its job has not been rescued"
    await control.fetch("rescue", 3, 10, False)
    await control.fetch("forget_workers")
    assert await connection.fetchval(LISTED) == []
    assert await states(connection) == {"queued": 1}


async def test_a_claim_that_commits_while_its_worker_is_forgotten_is_found(
    control: ControlConnection, connection: Connection, direct_url: str
) -> None:
    await enqueue(connection, 1)
    job: UUID = await connection.fetchval("SELECT id FROM rowlock.job")
    worker = await add_worker(connection, timedelta(seconds=-120))
    late = await asyncpg.connect(direct_url)
    try:
        async with late.transaction():
            await hand_to(late, worker, job)
            await asyncio.wait_for(control.fetch("forget_workers"), 5)
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker") == 0
        rows = await control.fetch("rescue", 3, 10, True)
        assert [row["id"] for row in rows] == [job]
    finally:
        late.terminate()


async def test_what_runs_is_counted_by_what_workers_hold_and_not_by_what_they_held(
    settings: Settings, connection: Connection
) -> None:
    await enqueue(connection, 3)
    jobs = [row["id"] for row in await connection.fetch("SELECT id FROM rowlock.job ORDER BY id")]
    one, other = await add_worker(connection, timedelta(hours=1)), await add_worker(connection, timedelta(hours=1))
    await hand_to(connection, one, jobs[0])
    await hand_to(connection, other, jobs[1])
    # The first one also had the second job, and a third, which is gone.
    stale = "INSERT INTO rowlock.holding (worker, number, ids) VALUES ($1, 1, $2)"
    await connection.execute(stale, one, [jobs[1], uuid7(), jobs[2]])
    async with Rowlock(settings=settings) as app:
        assert [worker.running for worker in await app.workers.list()] == [1, 1]
        assert [job.id for job in await app.jobs.list(JobFilter(state="running"))] == [jobs[1], jobs[0]]
