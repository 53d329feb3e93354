"""A duty goes on: what fails at one partition, day, task or table is logged, and keeps it from none of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.errors import DatabaseUnavailable, StatementTimeout
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.duties.statistics import AGAIN_AFTER, StatisticsDuty
from rowlock.worker.duties.steps import going_on
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DETAIL = "a row, with what a job was given"


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@asynccontextmanager
async def doing(connection: Connection, duty: str) -> AsyncIterator[Sequence[Mapping[str, Any]]]:
    """Have the worker do the duty now; what is logged meanwhile."""
    with capture_logs() as logs:
        await connection.execute("UPDATE rowlock.duty SET next_run_at = now() WHERE name = $1", duty)
        yield logs


async def hold(connection: Connection, duty: str) -> None:
    await connection.execute("UPDATE rowlock.duty SET next_run_at = 'infinity' WHERE name = $1", duty)


async def refuse(connection: Connection, verb: str, table: str, condition: str = "true") -> None:
    """Let the database refuse a change, with a detail that nobody should read."""
    await connection.execute(
        "CREATE FUNCTION rowlock.refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION 'refused' USING DETAIL = '{DETAIL}'; END $$; "
        f"CREATE TRIGGER refused BEFORE {verb} ON rowlock.{table} FOR EACH ROW WHEN ({condition}) "
        "EXECUTE FUNCTION rowlock.refuse()"
    )


async def is_empty(connection: Connection, query: str) -> bool:
    return not await connection.fetchval(f"SELECT EXISTS ({query})")


async def is_told(logs: Sequence[Mapping[str, Any]], event: str, **fields: str) -> Mapping[str, Any]:
    """The line that says so, once it is there; without the database's detail."""

    async def lines() -> list[Mapping[str, Any]]:
        return [line for line in logs if line["event"] == event and fields.items() <= line.items()]

    await eventually(lines)
    (line,) = await lines()
    assert DETAIL not in str(line)
    return line


def noon(days_ago: int) -> datetime:
    return datetime.combine(datetime.now(UTC).date() - timedelta(days=days_ago), time(12), UTC)


async def put(connection: Connection, at: datetime, task: str = "old") -> None:
    """A job that ended then."""
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, result) "
        "VALUES (rowlock.uuid7(), $1, 'succeeded', 1, 0, $2, $2, $2, 10, 1, 5, 'default', '{}', '1')",
        task,
        at,
    )


async def test_a_partition_that_cannot_be_made(app: Rowlock, connection: Connection) -> None:
    tomorrow = noon(-1)
    name = f"{tomorrow:%Y%m%d}"
    await hold(connection, "partitions")
    await connection.execute(
        f"DROP TABLE rowlock.attempt_{name}, rowlock.finished_job_{name}; "
        "CREATE TABLE rowlock.mine (LIKE rowlock.attempt INCLUDING ALL); "
        f"ALTER TABLE rowlock.attempt ATTACH PARTITION rowlock.mine FOR VALUES FROM ('{tomorrow:%Y-%m-%d} 12:00+00') "
        f"TO ('{tomorrow:%Y-%m-%d} 18:00+00')"
    )
    async with app.worker(), doing(connection, "partitions") as logs:
        line = await is_told(logs, "duty_failed", duty="partitions", archive="attempt", day=str(tomorrow.date()))
        assert line["sqlstate"] == "42P17"
        assert "would overlap" in line["detail"]
        await eventually(
            lambda: is_empty(connection, "SELECT FROM rowlock.missing_partitions(3) WHERE archive <> 'attempt'")
        )


async def test_a_partition_whose_name_is_taken(app: Rowlock, settings: Settings, connection: Connection) -> None:
    name = f"{noon(-1):%Y%m%d}"
    await hold(connection, "partitions")
    await connection.execute(
        f"DROP TABLE rowlock.attempt_{name}, rowlock.finished_job_{name}; "
        "CREATE FOREIGN DATA WRAPPER elsewhere; CREATE SERVER elsewhere FOREIGN DATA WRAPPER elsewhere; "
        f"CREATE FOREIGN TABLE rowlock.attempt_{name} () SERVER elsewhere"
    )
    async with app.worker(), doing(connection, "partitions"):
        await eventually(lambda: is_empty(connection, "SELECT FROM rowlock.missing_partitions(3)"))
    (found,) = (finding for finding in await examine(settings) if finding.check == "partitions")
    assert found.detail.startswith(f"another relation has the name attempt_{name}:")


RESULTS_OF_SECOND = "SELECT FROM rowlock.finished_job WHERE task = 'second' AND result IS NOT NULL"


async def keep_results_too_long(app: Rowlock, connection: Connection) -> None:
    """Results of two tasks whose time is over, and a duty that waits for its word."""
    await hold(connection, "results")
    for name in ("first", "second"):

        async def work() -> None: ...

        app.task(name=name, result_ttl=timedelta(hours=1))(work)
        await put(connection, datetime.now(UTC) - timedelta(hours=2), name)
    async with app.worker():
        pass  # it writes down what the tasks are


async def test_a_task_whose_results_cannot_be_removed(app: Rowlock, connection: Connection) -> None:
    await keep_results_too_long(app, connection)
    await refuse(connection, "UPDATE", "finished_job", "OLD.task = 'first'")
    async with app.worker(), doing(connection, "results") as logs:
        await is_told(logs, "duty_failed", duty="results", task="first")
        await eventually(lambda: is_empty(connection, RESULTS_OF_SECOND))


async def test_a_task_that_somebody_keeps_locked(app: Rowlock, connection: Connection, direct_url: str) -> None:
    await keep_results_too_long(app, connection)
    other = await asyncpg.connect(direct_url)
    try:
        async with app.worker():
            await other.execute("BEGIN; SELECT FROM rowlock.task WHERE name = 'first' FOR SHARE")
            async with doing(connection, "results") as logs:
                await is_told(logs, "duty_postponed", duty="results", task="first")
                await eventually(lambda: is_empty(connection, RESULTS_OF_SECOND))
    finally:
        other.terminate()


async def test_keys_that_cannot_be_removed(app: Rowlock, connection: Connection) -> None:
    await hold(connection, "keys")
    await connection.execute(
        "INSERT INTO rowlock.unique_key (key, job_id, expires_at) VALUES "
        "('x', rowlock.uuid7(), now() - interval '1 hour')"
    )
    await connection.execute(
        "INSERT INTO rowlock.idempotency_key (key_hash, fingerprint, expires_at) VALUES "
        "('x', 'x', now() - interval '1 hour')"
    )
    await refuse(connection, "DELETE", "unique_key")
    async with app.worker(), doing(connection, "keys") as logs:
        await is_told(logs, "duty_failed", duty="keys", statement="forget_unique_keys")
        await eventually(lambda: is_empty(connection, "SELECT FROM rowlock.idempotency_key"))


async def test_a_default_partition_that_cannot_be_cleared(app: Rowlock, connection: Connection) -> None:
    await hold(connection, "partitions")
    await put(connection, noon(40))
    await connection.execute(
        "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
        "VALUES (rowlock.uuid7(), 1, 'error', 'default', 'old', $1)",
        noon(40),
    )
    await refuse(connection, "DELETE", "finished_job_default")
    await app.retention.keep("*", succeeded=3600, failed=3600, cancelled=3600, expired=3600)
    async with app.worker(), doing(connection, "retention") as logs:
        await is_told(logs, "duty_failed", duty="retention", partition="finished_job_default")
        await eventually(lambda: is_empty(connection, "SELECT FROM rowlock.attempt_default"))


async def test_a_day_that_cannot_be_dropped(app: Rowlock, connection: Connection) -> None:
    old: list[date] = [noon(age).date() for age in (3, 2)]
    for day in old:
        await connection.execute("SELECT rowlock.create_partition('finished_job', $1)", day)
        await put(connection, datetime.combine(day, time(12), UTC))
    await connection.execute(f"CREATE VIEW rowlock.mine AS SELECT id FROM rowlock.finished_job_{old[0]:%Y%m%d}")
    await app.retention.keep("*", succeeded=3600, failed=3600, cancelled=3600, expired=3600)
    async with app.worker(), doing(connection, "retention") as logs:
        line = await is_told(logs, "duty_failed", duty="retention", archive="finished_job", day=str(old[0]))
        assert line["sqlstate"] == "2BP01"
        await eventually(
            lambda: is_empty(
                connection,
                f"SELECT FROM rowlock.archive_day WHERE archive = 'finished_job' AND day = '{old[1]}'",
            )
        )


async def test_a_duty_that_fails_as_a_whole_is_named(app: Rowlock, connection: Connection) -> None:
    await hold(connection, "waiters")
    await connection.execute(
        "INSERT INTO rowlock.waiter (job_id, listener, expires_at) "
        "VALUES (rowlock.uuid7(), rowlock.uuid7(), now() - interval '1 hour')"
    )
    await refuse(connection, "DELETE", "waiter")
    async with app.worker(), doing(connection, "waiters") as logs:
        await is_told(logs, "duty_failed", duty="waiters")


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    "error", [asyncpg.ConnectionDoesNotExistError(), asyncpg.AdminShutdownError(), OSError(), TimeoutError()]
)
def test_a_database_that_is_away_ends_the_duty(error: Exception) -> None:
    with pytest.raises(type(error)), going_on("partitions", day="today"):
        raise error


def test_a_database_that_cannot_be_reached_ends_the_duty() -> None:
    with pytest.raises(DatabaseUnavailable), going_on("partitions", day="today"):
        raise DatabaseUnavailable from OSError()


@pytest.mark.parametrize("error", [asyncpg.QueryCanceledError("too slow"), StatementTimeout("too slow")])
def test_a_statement_that_takes_too_long_does_not_end_the_duty(error: Exception) -> None:
    with capture_logs() as logs, going_on("partitions", day="today"):
        fail(error)
    assert [(line["event"], line["day"], line["detail"]) for line in logs] == [("duty_failed", "today", "too slow")]


ONCE = {
    "duty": "SELECT name, every FROM rowlock.duty ORDER BY name",
    "statistic_mark": "SELECT name FROM rowlock.statistic_mark WHERE name NOT LIKE 'former %' ORDER BY name",
}


@pytest.mark.parametrize("table", ONCE)
@pytest.mark.parametrize("act", ["DELETE FROM", "UPDATE", "TRUNCATE"])
async def test_a_row_that_exists_once_is_restored(app: Rowlock, connection: Connection, table: str, act: str) -> None:
    before = await connection.fetch(ONCE[table])
    renamed = " SET name = 'former ' || name" if act == "UPDATE" else ""
    await connection.execute(f"{act} rowlock.{table}{renamed}")
    with capture_logs() as logs:
        worker = app.worker()
        running = asyncio.create_task(worker.run(handle_signals=False))
        await eventually(lambda: any(entry["event"] == "rows_restored" for entry in logs))
        worker.stop()
        await running
    after = await connection.fetch(ONCE[table])
    assert [row for row in after if not row["name"].startswith("former ")] == before


async def test_statistics_go_on_where_they_were_when_their_marks_are_gone(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def work() -> None: ...

    async def count() -> None:
        control = ControlConnection(app.settings, await app.database.dsn(), purpose="upkeep")
        try:
            await control.fetch("restore_rows", AGAIN_AFTER)
            await StatisticsDuty(control, app.database).count()
        finally:
            await control.close()

    await work.enqueue()
    await app.worker().drain()
    await count()
    await work.enqueue()
    await app.worker().drain()
    await connection.execute("UPDATE rowlock.statistic_mark SET name = 'former ' || name")
    await count()
    assert await connection.fetchval("SELECT sum(succeeded) FROM rowlock.statistic WHERE step = 10") == 2
