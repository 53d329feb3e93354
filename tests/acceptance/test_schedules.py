"""Schedules over months of missed ticks, fired by several processes of which some are killed: each tick once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.schedules.cron import Cron
from tests.acceptance.processes import worker
from tests.acceptance.tasks import app as tasks
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

ZONES = ["Europe/Berlin", "America/New_York", "Australia/Sydney"]
TEXTS = ["30 2 * * *", "*/20 2 * * *", "0 0 * * SUN"]
IS_FIRING = (
    "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() "
    "AND wait_event = 'transactionid' AND query LIKE '-- Fire ticks%'"
)
SHORT_LEASE = {"ROWLOCK_LEASE": "3", "ROWLOCK_HEARTBEAT": "0.5"}


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        opened.tasks.update(tasks.tasks)
        yield opened


async def test_ticks_of_a_year_fire_once_each_over_both_changes_of_the_clocks_though_workers_are_killed(
    settings: Settings, app: Rowlock, connection: Connection
) -> None:
    for zone in ZONES:
        for text in TEXTS:
            name = f"{zone}-{text}".replace("/", ".").replace(" ", "_").replace("*", "x")
            await app.schedules.create(name, "note", text, args={"text": name}, timezone=zone, misfire="all")
    await connection.execute("UPDATE rowlock.schedule SET next_run_at = clock_timestamp() - interval '400 days'")
    before = await connection.fetch("SELECT name, cron, timezone, next_run_at FROM rowlock.schedule")

    async with worker(settings, **SHORT_LEASE) as first:
        holding = connection.transaction()
        await holding.start()
        tick = Cron(before[0]["cron"], before[0]["timezone"]).next(before[0]["next_run_at"] + timedelta(days=30))
        await connection.execute(
            "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) VALUES ($1, $2, rowlock.uuid7())",
            before[0]["name"],
            tick,
        )
        async with app.database.connection() as other:  # which sees news, as a transaction does not
            await eventually(lambda: is_true(other, IS_FIRING))
        first.kill()  # it has recorded some ticks, waits for the end of this transaction, and has committed nothing
        await first.wait()
        await holding.rollback()
    async with (
        worker(settings, **SHORT_LEASE) as second,
        worker(settings, **SHORT_LEASE),
        worker(settings, **SHORT_LEASE),
    ):
        await eventually(lambda: is_true(connection, "SELECT count(*) > 1200 FROM rowlock.schedule_tick"), 30)
        second.kill()
        done = (
            "SELECT (SELECT min(next_run_at) FROM rowlock.schedule) > clock_timestamp() "
            "AND NOT EXISTS (SELECT FROM rowlock.job)"
        )
        await eventually(lambda: is_true(connection, done), 60)

    ticks = await connection.fetch("SELECT schedule, tick_at, job_id FROM rowlock.schedule_tick ORDER BY tick_at")
    for row in before:
        fired = [tick["tick_at"] for tick in ticks if tick["schedule"] == row["name"]]
        until = await connection.fetchval("SELECT clock_timestamp()")
        assert fired == list(Cron(row["cron"], row["timezone"]).ticks(row["next_run_at"], until))
        assert fired[-1] - fired[0] > timedelta(days=380)
    finished = await connection.fetch("SELECT id, state FROM rowlock.finished_job")
    assert sorted(row["id"] for row in finished) == sorted(tick["job_id"] for tick in ticks)
    assert {row["state"] for row in finished} == {"succeeded"}


async def is_true(connection: Any, question: str) -> bool:  # noqa: ANN401  # a connection, or the pool's proxy for one
    return bool(await connection.fetchval(question))
