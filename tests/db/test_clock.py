"""The server's clock goes back, or another server with another clock takes over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import JobFilter, Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.server_clock import ServerClock
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.worker.duties.statistics import StatisticsDuty
from tests.db.claimants import CLAIMANT, register
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

HOUR = timedelta(hours=1)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=replace(settings, poll_interval=timedelta(seconds=0.05))) as opened:
        yield opened


@pytest.fixture
async def control(settings: Settings) -> AsyncIterator[ControlConnection]:
    assert settings.database_url is not None
    opened = ControlConnection(settings, settings.database_url, purpose="test")
    yield opened
    await opened.close()


def read(clock: ServerClock, seconds: float, *, sent: float, answered: float) -> bool:
    return clock.has_gone_back(NOON + timedelta(seconds=seconds), sent, answered)


def test_a_step_back_shows_in_the_next_answer_and_once() -> None:
    clock = ServerClock()
    assert not read(clock, 0, sent=100, answered=100.01)
    assert read(clock, -1, sent=101, answered=101.01), "two seconds back"
    assert not read(clock, 0, sent=102, answered=102.01)


def test_a_step_back_during_a_long_pause_shows_although_the_clock_has_passed_its_old_time() -> None:
    clock = ServerClock()
    assert not read(clock, 0, sent=100, answered=100.01)
    assert read(clock, 8, sent=110, answered=110.01), "ten seconds later it is eight seconds later"


def test_slow_answers_a_step_forward_and_a_drift_are_no_step_back() -> None:
    clock = ServerClock()
    assert not read(clock, 0, sent=100, answered=100.5)
    assert not read(clock, 0.6, sent=100.5, answered=103)
    assert not read(clock, 3600, sent=103, answered=103.01)
    assert not read(clock, 7199.5, sent=3703, answered=3703.01), "half a second in an hour"


async def test_a_duty_that_was_set_in_the_future_is_due(connection: Connection) -> None:
    await connection.execute(
        "UPDATE rowlock.duty SET every = '1 hour', set_at = now() + interval '10 minutes', "
        "next_run_at = now() + interval '70 minutes'"
    )
    names = [row["name"] for row in await connection.fetch("SELECT name FROM rowlock.duty")]
    claimed = await connection.fetch(statement("claim_duties", "rowlock"), names)
    assert sorted(row["name"] for row in claimed) == sorted(names)
    again = await connection.fetch(statement("claim_duties", "rowlock"), names)
    assert again == [], "they are set by the present clock now"


async def test_a_dead_worker_s_lease_of_the_future_is_cut_and_its_job_rescued(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def work() -> str:
        return "done"

    handle = await work.enqueue()
    await register(connection)
    await connection.execute(
        "UPDATE rowlock.worker SET lease = '1 second', expires_at = now() + interval '1 hour' WHERE id = $1", CLAIMANT
    )
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = $1, started_at = now()", CLAIMANT
    )
    async with app.worker():
        assert await handle.result(timeout=15) == "done"


async def test_a_live_worker_keeps_its_lease_when_the_clock_goes_back(app: Rowlock, connection: Connection) -> None:
    began, goes_on = asyncio.Event(), asyncio.Event()

    @app.task
    async def work() -> str:
        began.set()
        await goes_on.wait()
        return "done"

    handle = await work.enqueue()
    async with app.worker() as worker:
        first = worker.id
        await began.wait()
        await connection.execute("UPDATE rowlock.worker SET expires_at = now() + interval '1 hour'")
        is_cut = "SELECT expires_at < now() + interval '1 minute' FROM rowlock.worker WHERE id = $1"
        await eventually(lambda: connection.fetchval(is_cut, first))
        goes_on.set()
        await handle.result(timeout=10)
        assert worker.id == first
    assert await connection.fetchval("SELECT crashes FROM rowlock.finished_job") == 0


async def test_jobs_that_come_in_a_step_back_are_claimed_by_the_next_look(
    settings: Settings, connection: Connection
) -> None:
    assert settings.database_url is not None
    await register(connection)
    control = ControlConnection(settings, settings.database_url, purpose="claim")
    claims = Claims(control, ["default"], ["noop"])
    for _ in range(3):
        await connection.fetchval("SELECT rowlock.enqueue('noop')")
        assert len(await claims.claim(CLAIMANT, 10, {})) == 1
    job = await connection.fetchval("SELECT rowlock.enqueue('noop')")
    await connection.execute("UPDATE rowlock.job SET run_at = run_at - interval '2 s' WHERE id = $1", job)
    assert await claims.claim(CLAIMANT, 10, {}) == [], "behind the positions that were reached"
    claims._clock._at_least_ahead += 2  # what the answers before have shown of a clock that was two seconds ahead
    with capture_logs() as logs:
        await claims.claim(CLAIMANT, 10, {})
    assert [entry["event"] for entry in logs] == ["server_clock_went_back"]
    assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job]
    await control.close()


async def test_statistics_go_on_when_the_clock_goes_back(
    app: Rowlock, control: ControlConnection, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    await work.enqueue()
    await app.worker().drain()
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() + interval '1 hour'")
    statistics = StatisticsDuty(control, app.database)
    await statistics.count()
    assert await connection.fetchval("SELECT max(until) <= now() FROM rowlock.statistic_mark")
    await statistics.count()
    assert await connection.fetchval("SELECT sum(succeeded) FROM rowlock.statistic WHERE step = 10") == 1


@pytest.mark.parametrize("mark", ["counted", "recounted"])
async def test_what_ends_between_a_step_back_and_the_next_count_is_counted(
    mark: str, app: Rowlock, control: ControlConnection, connection: Connection
) -> None:
    @app.task
    async def work() -> None: ...

    await work.enqueue()
    await app.worker().drain()
    await connection.execute("UPDATE rowlock.finished_job SET finished_at = now() - interval '30 minutes'")
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - interval '1 minute'")
    await connection.execute(
        "UPDATE rowlock.statistic_mark SET until = now() + interval '20 minutes' WHERE name = $1", mark
    )
    await StatisticsDuty(control, app.database).count()
    assert await connection.fetchval("SELECT max(until) <= now() FROM rowlock.statistic_mark")
    counted = "SELECT sum(succeeded) FROM rowlock.statistic WHERE step = 300 AND at < now() - interval '20 minutes'"
    assert await connection.fetchval(counted) == 1


async def test_results_that_come_a_second_time_to_an_hour_are_removed(
    control: ControlConnection, connection: Connection
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts, result_ttl, results_removed_until) "
        "VALUES ('noop', 'default', 5, 1, '1 hour', now())"
    )
    await control.fetch("expired_results")
    left = "SELECT now() - result_ttl - results_removed_until FROM rowlock.task"
    assert timedelta(minutes=5) <= await connection.fetchval(left) < timedelta(minutes=6)
    await connection.execute("UPDATE rowlock.task SET results_removed_until = '-infinity'")
    assert [row["name"] for row in await control.fetch("expired_results")] == ["noop"]
    assert await connection.fetchval("SELECT results_removed_until = '-infinity' FROM rowlock.task")


async def test_acts_on_many_mean_what_came_in_before_the_clock_went_back(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1)
    async def fail(number: int) -> None:
        raise RuntimeError(number)

    dead = JobFilter(state="failed")
    for number in range(4):
        await fail.enqueue(number)
    await app.worker().drain()
    await connection.execute("UPDATE rowlock.finished_job SET finished_at = finished_at + interval '1 hour'")
    assert (await app.jobs.discard_many(JobFilter(args={"number": 0}))).count == 1
    assert (await app.jobs.retry_many(dead, dry_run=True)).count == 3
    assert (await app.jobs.retry_many(dead)).count == 3
    await connection.execute("UPDATE rowlock.job SET created_at = created_at + interval '1 hour'")
    assert (await app.jobs.cancel_many(JobFilter(task=fail.name))).count == 3


@pytest.mark.parametrize(
    "what, change",
    [
        ("duties", "UPDATE rowlock.duty SET set_at = now() + interval '1 hour'"),
        ("statistics", "UPDATE rowlock.statistic_mark SET until = now() + interval '1 hour'"),
        (
            "jobs",
            "INSERT INTO rowlock.job (id, task, created_at) SELECT rowlock.uuid7(), 'noop', now() + interval '1 hour'",
        ),
        (
            "schedules",
            "INSERT INTO rowlock.schedule (name, task, cron, updated_at) VALUES ('s', 'noop', '* * * * *', 'tomorrow')",
        ),
        (
            "operations",
            "INSERT INTO rowlock.operation (verb, target_kind, at) SELECT 'pause', 'queue', now() + interval '1 hour'",
        ),
    ],
)
async def test_the_doctor_warns_of_a_clock_that_went_back(
    what: str, change: str, settings: Settings, connection: Connection
) -> None:
    found = {finding.check: finding for finding in await examine(settings)}
    assert found["clock"].status == "ok"
    await connection.execute(change)
    found = {finding.check: finding for finding in await examine(settings)}
    assert (found["clock"].status, what in found["clock"].detail) == ("warn", True)
    assert "went back by up to " in found["clock"].detail
