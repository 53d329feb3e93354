"""Schedules as rows: created, edited, paused, deleted, and declared in code."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from rowlock import (
    InvalidArguments,
    InvalidOption,
    Rowlock,
    Schedule,
    ScheduleNotFound,
    Settings,
    StoredSchedule,
    UnknownTask,
)
from rowlock.queue.connect.statements import statement
from rowlock.queue.schedules.cron import Cron
from rowlock.worker.ticker import Ticker
from tests.db.scheduled import HOURLY, SKIPPED, Connection, fresh_ticker, jobs, now, operations, set_back
from tests.logged import capture_logs


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as made:

        @made.task(queue="reports", priority=7, max_attempts=4)
        async def report(kind: str = "short") -> str:
            return kind

        @made.task
        async def other() -> None: ...

        @made.task(expires=60, deadline=timedelta(hours=1))
        async def urgent() -> None: ...

        @made.task(tags=["nightly"], metadata={"team": "mail"})
        async def marked() -> None: ...

        yield made


@pytest.fixture
async def ticker(app: Rowlock, settings: Settings, connection: Connection) -> AsyncIterator[Ticker]:
    """What a worker of the application fires ticks with, to be run round by round."""
    async with fresh_ticker(app) as made:
        yield made


# As rows.


async def test_created_schedule_is_stored_with_its_next_tick(app: Rowlock, connection: Connection) -> None:
    created = await app.schedules.create(
        "weekly",
        "report",
        " 0  9 * * MON ",
        args={"kind": "long"},
        timezone="Europe/Berlin",
        misfire="skip",
        overlap="skip",
        jitter=90,
        queue="slow",
        priority=1,
        max_attempts=2,
        by="ada",
    )
    assert created.next_run_at == Cron("0 9 * * MON", "Europe/Berlin").next(await now(connection))
    shown = (created.name, created.task, created.cron, created.timezone, created.args, created.misfire, created.overlap)
    assert shown == ("weekly", "report", "0 9 * * MON", "Europe/Berlin", {"kind": "long"}, "skip", "skip")
    assert (created.jitter, created.queue, created.priority, created.max_attempts) == (
        timedelta(seconds=90),
        "slow",
        1,
        2,
    )
    assert (created.is_paused, created.origin, created.last_tick_at, created.last_job_id) == (False, "user", None, None)
    assert [one.name for one in await app.schedules.list()] == ["weekly"]
    told = {"task": "report", "cron": "0 9 * * MON", "timezone": "Europe/Berlin"}
    assert await operations(connection) == [("create", "weekly", "ada", "python", told)]


@pytest.mark.parametrize(
    "changed, error, said",
    [
        ({"name": "a b"}, InvalidOption, "; got 'a b'"),
        ({"name": ".."}, InvalidOption, "not . or .. alone"),
        ({"task": "nothing"}, UnknownTask, "'nothing'"),
        ({"task": "no such"}, InvalidOption, "; got 'no such'"),
        ({"cron": "* * *"}, InvalidOption, "cron must be a cron text; got '* * *'"),
        ({"cron": SKIPPED, "timezone": "Europe/Berlin"}, InvalidOption, "cron must mean a time"),
        ({"timezone": "Mars"}, InvalidOption, "; got 'Mars'"),
        ({"args": {"size": 1}}, InvalidArguments, "size"),
        ({"args": {"kind": 1}}, InvalidArguments, "kind"),
        ({"jitter": -1}, InvalidOption, "; got -1"),
        ({"misfire": "never"}, InvalidOption, "misfire must be one of latest, all, skip; got 'never'"),
        ({"overlap": "maybe"}, InvalidOption, "overlap must be one of allow, skip; got 'maybe'"),
        ({"queue": ""}, InvalidOption, "; got ''"),
        ({"by": "\0"}, InvalidOption, "; got '\\x00'"),
    ],
)
async def test_nonsense_is_refused_by_name_and_value_and_stores_nothing(
    changed: dict[str, Any], error: type[Exception], said: str, app: Rowlock, connection: Connection
) -> None:
    given: dict[str, Any] = {"name": "one", "task": "report", "cron": HOURLY}
    with pytest.raises(error) as refused:
        await app.schedules.create(**given | changed)
    assert said in str(refused.value)
    assert await app.schedules.list() == []
    assert await operations(connection) == []


async def test_name_can_be_taken_once(app: Rowlock) -> None:
    await app.schedules.create("one", "report", HOURLY)
    with pytest.raises(InvalidOption, match="'one' exists already"):
        await app.schedules.create("one", "other", "@daily")
    assert (await app.schedules.get("one")).task == "report"


async def test_task_that_a_worker_has_registered_can_be_scheduled_from_elsewhere(
    app: Rowlock, settings: Settings
) -> None:
    await app.worker().drain()
    async with Rowlock(settings=settings) as elsewhere:
        assert (await elsewhere.schedules.create("one", "report", HOURLY, args={"any": 1})).args == {"any": 1}


async def test_edit_changes_what_is_given_and_counts_from_now_only_if_the_times_change(
    app: Rowlock, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY, args={"kind": "long"}, jitter=5)
    await set_back(connection, "one", timedelta(hours=3))
    before = await app.schedules.get("one")
    edited = await app.schedules.edit("one", priority=2, args={"kind": "new"}, by="ada")
    assert (edited.priority, edited.args, edited.jitter, edited.next_run_at) == (
        2,
        {"kind": "new"},
        timedelta(seconds=5),
        before.next_run_at,
    )
    moved = await app.schedules.edit("one", cron="@daily", priority=None)
    assert (moved.cron, moved.priority, moved.args) == ("@daily", None, {"kind": "new"})
    assert moved.next_run_at == Cron("@daily", "UTC").next(await now(connection))
    assert [(verb, details) for verb, _, _, _, details in await operations(connection)][1:] == [
        ("edit", {"priority": 2, "args": "given"}),
        ("edit", {"cron": "@daily", "priority": None}),
    ]


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"cron": "x"}, InvalidOption),
        ({"cron": SKIPPED, "timezone": "Europe/Berlin"}, InvalidOption),
        ({"is_paused": True}, InvalidOption),
        ({"task": "nothing"}, UnknownTask),
        ({"args": {"x": 1}}, InvalidArguments),
        ({"jitter": -2}, InvalidOption),
    ],
)
async def test_refused_edit_changes_nothing(changes: dict[str, Any], error: type[Exception], app: Rowlock) -> None:
    before = await app.schedules.create("one", "report", HOURLY)
    with pytest.raises(error):
        await app.schedules.edit("one", **changes)
    assert (await app.schedules.get("one")).updated_at == before.updated_at


async def test_acts_on_a_schedule_that_is_not_there_are_refused(app: Rowlock, connection: Connection) -> None:
    for name in ("none", "no such name", "\0"):
        for act in (
            app.schedules.get(name),
            app.schedules.ticks(name),
            app.schedules.edit(name, cron="@daily"),
            app.schedules.pause(name),
            app.schedules.resume(name),
            app.schedules.run(name),
            app.schedules.delete(name),
        ):
            with pytest.raises(ScheduleNotFound):
                await act
    assert await operations(connection) == []


async def test_ticks_of_a_pause_do_not_fire_after_it(app: Rowlock, ticker: Ticker, connection: Connection) -> None:
    await app.schedules.create("one", "report", HOURLY, misfire="all")
    paused = await app.schedules.pause("one", by="ada")
    assert paused.is_paused
    await set_back(connection, "one", timedelta(hours=5))
    await ticker.fire_due()
    assert await jobs(connection) == []
    resumed = await app.schedules.resume("one")
    assert (resumed.is_paused, resumed.next_run_at) == (False, Cron(HOURLY, "UTC").next(await now(connection)))
    await ticker.fire_due()
    assert await jobs(connection) == []
    await app.schedules.resume("one")
    assert [verb for verb, *_ in await operations(connection)] == ["create", "pause", "resume"], "nothing is done twice"


async def test_run_enqueues_a_job_beside_the_ticks_even_while_it_is_paused(
    app: Rowlock, connection: Connection
) -> None:
    before = await app.schedules.create("one", "report", HOURLY, args={"kind": "long"}, overlap="skip", is_paused=True)
    await app.worker().drain()  # which registers the tasks, and finds nothing to do
    first, second = await app.schedules.run("one"), await app.schedules.run("one", by="ada")
    made = await jobs(connection)
    assert [(row["id"], row["task"], row["queue"], row["priority"], row["max_attempts"]) for row in made] == [
        (handle.id, "report", "reports", 7, 4) for handle in (first, second)
    ]
    after = await app.schedules.get("one")
    assert (after.next_run_at, after.last_tick_at, after.last_job_id) == (before.next_run_at, None, second.id)
    assert await app.schedules.ticks("one") == []
    assert (await operations(connection))[-1] == ("run", "one", "ada", "python", {"job": str(second.id)})
    async with app.worker():
        assert await second.result(timeout=10) == "long"


async def test_deleted_schedule_is_gone_and_its_jobs_stay(app: Rowlock, ticker: Ticker, connection: Connection) -> None:
    await app.schedules.create("one", "report", HOURLY)
    await set_back(connection, "one", timedelta(hours=2))
    await ticker.fire_due()
    await app.schedules.delete("one", by="ada")
    assert await app.schedules.list() == []
    assert len(await jobs(connection)) == 1
    assert await connection.fetchval("SELECT count(*) FROM rowlock.schedule_tick") == 0
    assert (await operations(connection))[-1][:3] == ("delete", "one", "ada")


def declaring(settings: Settings, *schedules: str | Schedule) -> Rowlock:
    """A version of the code that declares these."""
    app = Rowlock(settings=settings)

    @app.task(schedule=schedules)
    async def report(kind: str = "short") -> str:
        return kind

    return app


async def deployed(app: Rowlock) -> dict[str, StoredSchedule]:
    async with app:
        await app.worker().drain()
        return {one.name: one for one in await app.schedules.list()}


# Declared in code.


async def test_declared_schedules_are_written_down_when_a_worker_starts(
    settings: Settings, connection: Connection
) -> None:
    app = declaring(settings, HOURLY, Schedule("@daily", name="long", args={"kind": "long"}, timezone="Asia/Tokyo"))
    app.schedule("report", "@weekly", name="weekly", jitter=3, overlap="skip", misfire="all", priority=1)
    found = await deployed(app)
    assert {name: (one.cron, one.timezone, one.args, one.origin) for name, one in found.items()} == {
        "report": (HOURLY, "UTC", {}, "code"),
        "long": ("@daily", "Asia/Tokyo", {"kind": "long"}, "code"),
        "weekly": ("@weekly", "UTC", {}, "code"),
    }
    weekly = found["weekly"]
    assert (weekly.jitter, weekly.overlap, weekly.misfire, weekly.priority) == (timedelta(seconds=3), "skip", "all", 1)
    assert found["long"].next_run_at == Cron("@daily", "Asia/Tokyo").next(await now(connection))
    assert await operations(connection) == []


async def test_unchanged_declaration_keeps_what_people_did_and_a_changed_one_only_the_pause(settings: Settings) -> None:
    app = declaring(settings, HOURLY)
    await deployed(app)
    await app.schedules.edit("report", cron="@daily", priority=1)
    await app.schedules.pause("report")
    same = (await deployed(declaring(settings, HOURLY)))["report"]
    assert (same.cron, same.priority, same.is_paused) == ("@daily", 1, True)
    changed = (await deployed(declaring(settings, Schedule(HOURLY, misfire="all"))))["report"]
    assert (changed.cron, changed.priority, changed.misfire, changed.is_paused) == (HOURLY, None, "all", True)
    await app.close()


async def test_redeployed_code_neither_loses_nor_repeats_a_tick(
    settings: Settings, ticker: Ticker, connection: Connection
) -> None:
    await deployed(declaring(settings, HOURLY))
    await set_back(connection, "report", timedelta(hours=2))
    due = (await deployed(declaring(settings, HOURLY)))["report"]
    assert due.next_run_at is not None
    assert due.next_run_at < await now(connection)
    later = (await deployed(declaring(settings, Schedule(HOURLY, args={"kind": "long"}))))["report"]
    assert later.next_run_at == due.next_run_at, "the times are the same"
    await ticker.fire_due()
    assert [json.loads(row["args"]) for row in await jobs(connection)] == [{"kind": "long"}]
    for _ in range(2):
        for text in (HOURLY, "30 * * * *"):
            await deployed(declaring(settings, text))
            await ticker.fire_due()
    assert await connection.fetchval("SELECT count(*) FROM rowlock.schedule_tick") == 1


async def test_schedule_that_somebody_created_stays_theirs(settings: Settings) -> None:
    app = declaring(settings)
    await app.schedules.create("report", "report", "@yearly")
    with capture_logs() as logs:
        found = await deployed(declaring(settings, HOURLY))
    assert (found["report"].cron, found["report"].origin) == ("@yearly", "user")
    assert "schedule_name_taken" in {log["event"] for log in logs}
    await app.close()


async def test_wrong_declarations_are_refused_where_they_are_made(settings: Settings) -> None:
    app = declaring(settings, HOURLY)
    with pytest.raises(InvalidOption, match="cron must be a cron text; got 'soon'"):

        @app.task(schedule="soon")
        def one() -> None: ...

    with pytest.raises(InvalidOption, match="cron must mean a time in the next fifty years"):

        @app.task(schedule=Schedule(SKIPPED, timezone="Europe/Berlin"))
        def never() -> None: ...

    with pytest.raises(InvalidOption, match="cron must mean a time in the next fifty years"):
        app.schedule("report", SKIPPED, timezone="Europe/Berlin", name="never")

    with pytest.raises(InvalidArguments, match="missing"):

        @app.task(schedule="@daily")
        def two(needed: int) -> None: ...

    with pytest.raises(InvalidOption, match="unique among schedules; got 'three'"):

        @app.task(schedule=["@daily", "@hourly"])
        def three() -> None: ...

    with pytest.raises(InvalidOption, match="unique among schedules; got 'report'"):
        app.schedule("report", "@daily")
    with pytest.raises(UnknownTask, match="'nothing'"):
        app.schedule("nothing", "@daily")
    assert list(app.tasks) == ["report"], "nothing half done"
    assert list(await deployed(app)) == ["report"]


async def test_due_schedules_are_found_by_their_index(app: Rowlock, connection: Connection) -> None:
    await connection.execute(
        "INSERT INTO rowlock.schedule (name, task, cron, next_run_at) "
        "SELECT 's' || n, 'report', '@daily', now() + n * interval '1 minute' FROM generate_series(1, 5000) n"
    )
    await connection.execute("ANALYZE rowlock.schedule")
    plan = await connection.fetchval(
        f"EXPLAIN (FORMAT JSON) {statement('due_schedules', 'rowlock')}".replace("$1::text[]", "'{report}'")
        .replace("$2::text[]", "'{}'::text[]")
        .replace("$3::interval", "interval '1.5 seconds'")
        .replace("$4", "100")
    )
    assert "schedule_next_run_at" in plan


async def test_a_schedule_that_the_code_does_not_declare_any_more_is_told_and_pruned(database_url: str) -> None:
    def application(**schedules: str) -> Rowlock:
        app = Rowlock(database_url)

        @app.task
        async def report() -> None: ...

        for name, cron in schedules.items():
            app.schedule(report, cron, name=name)
        return app

    async def declared(app: Rowlock) -> dict[str, bool]:
        async with app.worker():
            pass
        return {one.name: one.undeclared_at is None for one in await app.schedules.list()}

    both, one = application(daily="@daily", hourly="@hourly"), application(daily="@daily")
    async with both, one:
        await declared(both)
        await both.schedules.create("of_ada", "report", "@weekly", by="ada")
        assert await declared(both) == {"daily": True, "hourly": True, "of_ada": True}
        edited = await both.schedules.edit("hourly", cron="30 * * * *", by="ada")
        for _ in range(2):
            with capture_logs() as lines:
                assert await declared(one) == {"daily": True, "hourly": False, "of_ada": True}
            assert [line["schedule"] for line in lines if line["event"] == "schedule_is_not_declared"] == ["hourly"]
        assert await declared(both) == {"daily": True, "hourly": True, "of_ada": True}, "declared again"
        assert (await both.schedules.get("hourly")).cron == edited.cron, "and as people have edited it"
        assert await both.schedules.prune(by="ada") == []
        await declared(one)
        assert await one.schedules.prune(by="ada") == ["hourly"]
        assert [(act.verb, act.by) for act in await one.operations(limit=1)] == [("delete", "ada")]
        assert await declared(one) == {"daily": True, "of_ada": True}
