"""The kit for tests of applications: time is moved, schedules fire, and an application uses the test's database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import ConfigurationError, InvalidOption, Rowlock, Schedule, Settings, Unique, WrongState
from rowlock.queue.connect.statements import statement
from rowlock.testing import assert_enqueued, drain, fire_schedules, move_time, perform, use_database
from rowlock.testing.bench import OWN, PACKAGE
from tests.db.kit import DAY, HOUR, app, seen, send
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(autouse=True)
def _at_home(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    seen.clear()
    monkeypatch.setattr(app, "settings", settings)  # whether there is a pooler
    with use_database(app, database_url):
        yield


# move_time


async def test_moved_time_makes_due_what_waits_and_no_more() -> None:
    await send.using(delay=2 * HOUR).enqueue("soon")
    await send.using(delay=4 * HOUR).enqueue("late")
    await move_time(app, timedelta(hours=1))
    assert len(await drain(app)) == 0
    await move_time(app, 3600)
    await drain(app)
    assert seen == ["soon"]


async def test_moved_time_frees_keys_that_are_held_for_a_period() -> None:
    once_an_hour = send.using(unique=Unique("ada", period=HOUR))
    await once_an_hour.enqueue("ada")
    await drain(app)
    assert (await once_an_hour.enqueue("ada")).is_duplicate
    await move_time(app, HOUR)
    assert not (await once_an_hour.enqueue("ada")).is_duplicate


async def test_moved_time_leaves_no_time_behind(connection: Connection) -> None:
    """Each column that holds a time moves, or is named here with the others that do not."""
    still = {"operation.at", "worker.started_at", "worker.expires_at", "waiter.expires_at", "statistic.at"}
    still |= {"statistic_mark.until", "backlog.at", "backlog.taken_at", "backlog.oldest_due_at"}
    rows = await connection.fetch(
        "SELECT format('%s.%s', relname, attname) FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
        "WHERE relnamespace = 'rowlock'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition "
        "AND atttypid = 'timestamptz'::regtype AND NOT attisdropped"
    )
    text = statement("move_time", "rowlock", PACKAGE)
    moved = {
        f"{update['table']}.{column}"
        for update in re.finditer(r"UPDATE rowlock\.(?P<table>\w+)\s+SET (?P<what>[^()]*)", text)
        for column in re.findall(r"(\w+) = \1 - \$1::interval", update["what"])
    } | {"schedule_tick.tick_at", "schedule_tick.fired_at"}
    assert {row[0] for row in rows} - still == moved


async def test_moved_time_moves_the_whole_past(connection: Connection) -> None:
    await perform(app, send, "ada")
    before = await connection.fetchrow("SELECT created_at, run_at, started_at, finished_at FROM rowlock.finished_job")
    await move_time(app, 40 * DAY)
    after = await connection.fetchrow("SELECT created_at, run_at, started_at, finished_at FROM rowlock.finished_job")
    assert before is not None
    assert after is not None
    assert {one - other for one, other in zip(before, after, strict=True)} == {40 * DAY}


async def test_moved_ticks_do_not_meet_each_other(connection: Connection) -> None:
    await app.schedules.create("daily", "plain", "0 8 * * *", args={"number": 1})
    await connection.execute(
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) "
        "SELECT 'daily', date '2026-01-31' - day, gen_random_uuid() FROM generate_series(1, 9) AS days (day)"
    )
    await move_time(app, DAY)
    first, last = (await app.schedules.ticks("daily"))[:: len(await app.schedules.ticks("daily")) - 1]
    assert (first.tick_at, last.tick_at) == (datetime(2026, 1, 29, tzinfo=UTC), datetime(2026, 1, 21, tzinfo=UTC))


async def test_moved_time_is_recorded_as_an_operation() -> None:
    await move_time(app, timedelta(hours=1, microseconds=1))
    await move_time(app, 1.5)
    last, first = await app.operations(verb="move_time")
    assert (first.target_kind, first.target, first.details) == ("schema", "rowlock", {"microseconds": 3_600_000_001})
    assert last.details == {"microseconds": 1_500_000}


async def test_time_moves_only_forward() -> None:
    refused: list[Any] = [0, -1, timedelta(days=-1), float("nan"), timedelta(days=40_000), "1 hour", None]
    for by in refused:
        with pytest.raises(InvalidOption):
            await move_time(app, by)
    assert await app.operations() == []


async def test_time_of_a_schema_in_use_is_not_moved(connection: Connection) -> None:
    job = await send.using(delay=HOUR).enqueue("ada")
    async with app.worker(queues=["other"]):
        with pytest.raises(WrongState, match=r"must have no live worker .*; got .+, process \d+"):
            await move_time(app, HOUR)
    await move_time(app, 60)
    old = UUID(int=(int((datetime.now(UTC) - 2 * DAY).timestamp() * 1000) << 80) | 0x7000_8000_0000_0000_0000)
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) "
        "VALUES ($1, 'send', 'succeeded', 1, 0, now(), now(), now(), 10, 0, 5, 'email', '{}')",
        old,
    )
    with pytest.raises(WrongState, match=r"must be a test's .*; got a job that was enqueued 2 days ago"):
        await move_time(app, HOUR)
    assert (await job.get()).state == "scheduled"
    assert len(await app.operations(verb="move_time")) == 1


# fire_schedules


async def test_schedules_fire_at_their_time_of_day_however_time_is_moved() -> None:
    soon = datetime.now(UTC) + timedelta(minutes=30)
    await app.schedules.create("daily", "plain", f"{soon:%M %H} * * *", args={"number": 1}, misfire="all")
    fired = []
    for minutes in (0, 20, 20, 23 * 60, 60, 3 * 24 * 60, 24 * 60, 24 * 60):
        if minutes:
            await move_time(app, timedelta(minutes=minutes))
        fired.append(await fire_schedules(app))
    assert fired == [0, 0, 1, 0, 1, 3, 1, 1]
    assert await fire_schedules(app) == 0
    assert (await drain(app)).outcomes == {"succeeded": 7}


async def test_schedules_of_the_code_fire_though_no_worker_has_ever_run(database_url: str) -> None:
    async with Rowlock(database_url) as other:

        @other.task(schedule=Schedule("* * * * *", misfire="all"))
        async def often() -> None: ...

        await move_time(other, timedelta(minutes=3))
        assert await fire_schedules(other) == 3
        await assert_enqueued(other, often, count=3)


async def test_schedules_of_tasks_that_others_have_do_not_fire(connection: Connection) -> None:
    await app.schedules.create("daily", "plain", "0 8 * * *", args={"number": 1})
    await move_time(app, DAY)
    await connection.execute("UPDATE rowlock.schedule SET task = 'foreign'")
    assert await fire_schedules(app) == 0


# use_database


async def test_application_is_another_ones_only_inside_of_the_block(database_url: str) -> None:
    inside = app.settings.database_url
    handle = await send.enqueue("ada")
    elsewhere = "postgresql://localhost:1/elsewhere"
    with use_database(app, elsewhere):
        assert app.settings.database_url == app.database.settings.database_url == elsewhere
    assert app.settings.database_url == app.database.settings.database_url == inside == database_url
    assert (await handle.get()).task == "send"


@pytest.mark.needs_session("it counts the server's sessions, which the pooler keeps")
async def test_application_leaves_no_connection_open(connection: Connection) -> None:
    await send.enqueue("ada")
    await perform(app, send, "bob")

    async def is_alone() -> bool:  # a closed connection's process takes a moment to end
        count = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()")
        return bool(count == 1)

    await eventually(is_alone)


def test_application_works_on_one_event_loop_after_the_other() -> None:
    asyncio.run(_enqueue())
    asyncio.run(_enqueue())
    assert len(asyncio.run(drain(app))) == 2


async def _enqueue() -> None:
    await send.enqueue("ada")


def test_application_is_pointed_at_no_nonsense() -> None:
    with pytest.raises(ConfigurationError), use_database(app, "mysql://localhost"):
        pass
    with pytest.raises(InvalidOption, match="app must be a Rowlock"), use_database(send, "postgresql://x"):  # type: ignore[arg-type]
        pass


# The statements of the kit


def test_statements_of_the_kit_are_known() -> None:
    assert {file.name for file in files(PACKAGE).joinpath("sql").iterdir()} == {f"{name}.sql" for name in OWN}


async def test_statements_of_the_kit_can_be_prepared(connection: Connection) -> None:
    for name in OWN:
        text = statement(name, "rowlock", PACKAGE)
        assert text.startswith("-- ")
        await connection.prepare(text)


def test_one_job_is_claimed_as_many_are() -> None:
    def returned(text: str) -> str:
        (columns,) = re.findall(r"RETURNING (id, task.*?AS times)", text, re.DOTALL)
        return " ".join(columns.split())

    assert returned(statement("claim_job", "rowlock", PACKAGE)) == returned(statement("claim", "rowlock"))
