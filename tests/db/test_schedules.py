"""Schedules as rows, and what fires their ticks: at most one job a tick, whoever comes first and whatever fails."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
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
from rowlock.cli.commands.doctor import examine
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.enqueue import columns
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.schedules.cron import Cron
from rowlock.queue.schedules.schedule import Misfire
from rowlock.worker.ticker import Ticker
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

HOURLY = "0 * * * *"
SKIPPED = "*/30 2 * 3 7L"  # in Berlin, the hour that the clocks skip


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


class fresh_ticker:  # noqa: N801  # used like a function
    def __init__(self, app: Rowlock, *tasks: str) -> None:
        assert app.settings.database_url is not None
        self._connection = ControlConnection(app.settings, app.settings.database_url, purpose="test")
        self._ticker = Ticker(self._connection, {name: app.tasks[name] for name in tasks or app.tasks})

    async def __aenter__(self) -> Ticker:
        return self._ticker

    async def __aexit__(self, *_: object) -> None:
        await self._connection.close()


async def set_back(connection: Connection, name: str, ago: timedelta | datetime) -> None:
    """Let the schedule look as if nobody had handled its ticks for so long, or since then."""
    if isinstance(ago, timedelta):
        await connection.execute(
            "UPDATE rowlock.schedule SET next_run_at = clock_timestamp() - $2::interval WHERE name = $1", name, ago
        )
    else:
        await connection.execute("UPDATE rowlock.schedule SET next_run_at = $2 WHERE name = $1", name, ago)


async def jobs(connection: Connection) -> list[asyncpg.Record]:
    return await connection.fetch("SELECT * FROM rowlock.job ORDER BY id")


async def operations(connection: Connection) -> list[tuple[Any, ...]]:
    rows = await connection.fetch("SELECT verb, target, by, source, details FROM rowlock.operation ORDER BY id")
    return [(row["verb"], row["target"], row["by"], row["source"], json.loads(row["details"])) for row in rows]


async def now(connection: Connection) -> datetime:
    found: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return found


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
        ({"name": "a b"}, InvalidOption, "schedule 'a b'"),
        ({"name": ".."}, InvalidOption, "not . or .. alone"),
        ({"task": "nothing"}, UnknownTask, "'nothing'"),
        ({"task": "no such"}, InvalidOption, "task 'no such'"),
        ({"cron": "* * *"}, InvalidOption, "cron '* * *'"),
        ({"cron": SKIPPED, "timezone": "Europe/Berlin"}, InvalidOption, "cron must mean a time"),
        ({"timezone": "Mars"}, InvalidOption, "timezone 'Mars'"),
        ({"args": {"size": 1}}, InvalidArguments, "size"),
        ({"args": {"kind": 1}}, InvalidArguments, "kind"),
        ({"jitter": -1}, InvalidOption, "jitter -1"),
        ({"misfire": "never"}, InvalidOption, "misfire 'never'"),
        ({"overlap": "maybe"}, InvalidOption, "overlap 'maybe'"),
        ({"queue": ""}, InvalidOption, "queue ''"),
        ({"by": "\0"}, InvalidOption, "by '\\x00'"),
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
    with pytest.raises(InvalidOption, match="'one' is there already"):
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


# Ticks.


async def test_tick_makes_a_job_as_the_schedule_and_then_the_task_say(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.worker().drain()
    await app.schedules.create("plain", "report", HOURLY)
    await app.schedules.create("own", "report", HOURLY, args={"kind": "long"}, queue="slow", priority=0, max_attempts=1)
    for name in ("plain", "own"):
        await set_back(connection, name, timedelta(hours=1))
    began = await now(connection)
    await ticker.fire_due()
    made = {row["queue"]: row for row in await jobs(connection)}
    assert {queue: (row["priority"], row["max_attempts"], json.loads(row["args"])) for queue, row in made.items()} == {
        "reports": (7, 4, {}),
        "slow": (0, 1, {"kind": "long"}),
    }
    assert all(row["run_at"] >= began for row in made.values()), "the claims' cursors rely on it"
    [tick] = await app.schedules.ticks("own")
    stored = await app.schedules.get("own")
    latest = Cron(HOURLY, "UTC").latest(began - timedelta(hours=2), began)
    assert (tick.tick_at, tick.job_id, tick.state) == (latest, made["slow"]["id"], "queued")
    assert (stored.last_tick_at, stored.last_job_id) == (latest, made["slow"]["id"])
    assert stored.next_run_at == Cron(HOURLY, "UTC").next(began)


@pytest.mark.parametrize("misfire, expected", [("latest", 1), ("all", 5), ("skip", 0)])
async def test_missed_ticks_become_what_the_policy_says(
    misfire: Misfire, expected: int, app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    minute = (await now(connection)) - timedelta(minutes=30)
    await app.schedules.create("one", "report", f"{minute.minute} * * * *", misfire=misfire)
    await set_back(connection, "one", timedelta(hours=4, minutes=40))
    await ticker.fire_due()
    await ticker.fire_due()
    assert len(await jobs(connection)) == expected
    assert len(await app.schedules.ticks("one")) == expected


async def test_skip_makes_no_job_while_the_last_one_is_not_finished(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", "* * * * * *", overlap="skip", misfire="all")
    with capture_logs() as logs:
        for _ in range(3):
            await set_back(connection, "one", timedelta(seconds=3))
            await ticker.fire_due()
    assert len(await jobs(connection)) == 1
    assert {log["reason"] for log in logs if log["event"] == "tick_skipped"} == {"overlap"}
    await app.worker().drain()
    await set_back(connection, "one", timedelta(seconds=0))
    await eventually(lambda: fired_one(ticker))
    assert len(await jobs(connection)) == 1
    assert len(await app.schedules.ticks("one")) == 2


async def fired_one(ticker: Ticker) -> bool:
    before = ticker.fired
    await ticker.fire_due()
    return ticker.fired > before


async def test_job_that_was_run_by_hand_counts_for_the_overlap(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY, overlap="skip")
    await app.schedules.run("one")
    await set_back(connection, "one", timedelta(hours=2))
    await ticker.fire_due()
    assert len(await jobs(connection)) == 1


async def test_jitter_delays_a_job_up_to_its_length(app: Rowlock, ticker: Ticker, connection: Connection) -> None:
    await app.schedules.create("one", "report", "* * * * * *", jitter=timedelta(hours=1), misfire="all")
    await set_back(connection, "one", timedelta(seconds=30))
    await ticker.fire_due()
    run_ats = [row["run_at"] for row in await jobs(connection)]
    moment = await now(connection)
    assert len(run_ats) >= 30
    assert all(run_at <= moment + timedelta(hours=1) for run_at in run_ats)
    assert len({run_at.replace(microsecond=0) for run_at in run_ats}) > 20


async def test_jobs_of_ticks_end_when_those_of_their_task_do(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "urgent", HOURLY)
    await set_back(connection, "one", timedelta(hours=1))
    await ticker.fire_due()
    await app.schedules.run("one")
    for row in await jobs(connection):
        limits = (row["expires_at"] - row["run_at"], row["deadline"] - row["run_at"], row["ends_at"] - row["run_at"])
        assert limits == (timedelta(seconds=60), timedelta(hours=1), timedelta(seconds=60))
    await connection.execute("UPDATE rowlock.schedule SET task = 'report'")
    await app.schedules.run("one")
    assert (await jobs(connection))[-1]["ends_at"] is None


async def test_worker_fires_the_schedules_of_its_own_tasks_alone(
    app: Rowlock, settings: Settings, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY)
    await app.schedules.create("two", "other", HOURLY)
    for name in ("one", "two"):
        await set_back(connection, name, timedelta(hours=1))
    async with fresh_ticker(app, "other") as ticker:
        await ticker.fire_due()
    assert [row["task"] for row in await jobs(connection)] == ["other"]


async def test_tick_that_has_fired_does_not_again_even_if_somebody_sets_the_clock_of_the_schedule_back(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY, misfire="all")
    for _ in range(3):
        await set_back(connection, "one", datetime.now(UTC) - timedelta(hours=5))
        await ticker.fire_due()
    assert len(await jobs(connection)) == 5


async def test_more_than_a_thousand_ticks_take_several_rounds(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", "* * * * * *", misfire="all")
    await set_back(connection, "one", timedelta(seconds=1500))
    with capture_logs() as logs:
        await ticker.fire_due()
    assert len(await jobs(connection)) == 1000
    assert "ticks_left" in {log["event"] for log in logs}
    await ticker.fire_due()
    assert len(await jobs(connection)) >= 1500


async def test_each_job_has_the_tags_and_the_metadata_of_its_task(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "marked", HOURLY)
    await set_back(connection, "one", timedelta(hours=1))
    await ticker.fire_due()
    await app.schedules.run("one")
    fired = await app.jobs()
    assert [(job.tags, job.metadata) for job in fired] == [(["nightly"], {"team": "mail"})] * 2


async def test_broken_row_is_told_once_and_keeps_no_other_from_firing(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    for name in ("one", "two", "three"):
        await app.schedules.create(name, "report", HOURLY)
        await set_back(connection, name, timedelta(hours=1))
    await connection.execute("UPDATE rowlock.schedule SET cron = 'whenever' WHERE name = 'one'")
    await connection.execute("UPDATE rowlock.schedule SET timezone = 'Mars' WHERE name = 'two'")
    with capture_logs() as logs:
        for _ in range(3):
            await ticker.fire_due()
    assert sorted(log["schedule"] for log in logs if log["event"] == "schedule_broken") == ["one", "two"]
    assert [tick.state for tick in await app.schedules.ticks("three")] == ["queued"]


@pytest.mark.parametrize("cron", ["whenever", SKIPPED])
async def test_broken_row_can_be_paused_and_corrected(cron: str, app: Rowlock, connection: Connection) -> None:
    await app.schedules.create("one", "report", HOURLY, timezone="Europe/Berlin")
    await connection.execute("UPDATE rowlock.schedule SET cron = $1", cron)
    assert (await app.schedules.pause("one")).is_paused
    with pytest.raises(InvalidOption, match="cron"):
        await app.schedules.edit("one", jitter=1)
    await app.schedules.edit("one", cron="30 2 * * *")
    assert (await app.schedules.resume("one")).next_run_at is not None


async def test_row_of_times_that_the_clocks_always_skip_fires_nothing_and_has_no_next_tick(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY, timezone="Europe/Berlin")
    await connection.execute("UPDATE rowlock.schedule SET cron = $1", SKIPPED)
    await set_back(connection, "one", timedelta(hours=1))
    await ticker.fire_due()
    stored = await app.schedules.get("one")
    assert (stored.next_run_at, stored.next_ticks(3), await jobs(connection)) == (None, [], [])


async def test_schedule_whose_job_the_database_refuses_keeps_no_other_from_firing(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await connection.execute("ALTER TABLE rowlock.job ADD CONSTRAINT refused CHECK (task <> 'other')")
    for name, task in (("one", "other"), ("two", "report"), ("three", "report")):
        await app.schedules.create(name, task, HOURLY)
        await set_back(connection, name, timedelta(hours=1))
    with capture_logs() as logs:
        for _ in range(3):
            await ticker.fire_due()
    assert [row["task"] for row in await jobs(connection)] == ["report", "report"]
    (told,) = (log for log in logs if log["event"] == "schedule_broken")
    assert (told["schedule"], told["error"]) == ("one", "CheckViolationError")
    assert "refused" in told["detail"]
    assert "Failing row" not in told["detail"], "it shows the job's arguments"


async def test_broken_schedule_is_told_again_only_once_it_is_edited_and_fires_once_it_can(
    app: Rowlock, ticker: Ticker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.ticker.TRY_BROKEN_MOST", 0)
    monkeypatch.setattr("rowlock.worker.ticker.LOOK_EVERY", 0)
    await connection.execute("ALTER TABLE rowlock.job ADD CONSTRAINT refused CHECK (task <> 'other')")
    await app.schedules.create("one", "other", HOURLY)
    await set_back(connection, "one", timedelta(hours=1))

    async def told() -> int:
        with capture_logs() as logs:
            for _ in range(3):
                await ticker.fire_due()
        return [log["event"] for log in logs].count("schedule_broken")

    assert await told() == 1
    assert await told() == 0
    await app.schedules.edit("one", jitter=1)
    assert await told() == 1
    await connection.execute("ALTER TABLE rowlock.job DROP CONSTRAINT refused")
    assert await told() == 0
    assert [tick.state for tick in await app.schedules.ticks("one")] == ["queued"]


async def test_doctor_names_a_schedule_that_does_not_fire(
    app: Rowlock, settings: Settings, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY)
    async with app.worker():
        await connection.execute("UPDATE rowlock.worker SET started_at = now() - interval '1 hour'")
        await connection.execute(
            "UPDATE rowlock.schedule SET cron = 'whenever', next_run_at = now() - interval '20 minutes', "
            "updated_at = now() - interval '1 hour'"
        )
        (found,) = [finding for finding in await examine(settings) if "schedule left behind" in finding.detail]
    assert found.status == "fail"
    assert "one was due at" in found.detail
    assert found.remedy is not None
    assert "schedule_broken" in found.remedy


@pytest.mark.parametrize("option", ["expires", "deadline"])
async def test_limit_that_is_a_moment_is_that_moment_for_each_tick(
    option: str, app: Rowlock, connection: Connection
) -> None:
    moment = datetime(2100, 1, 1, tzinfo=UTC)

    @app.task(expires=moment if option == "expires" else None, deadline=moment if option == "deadline" else None)
    async def until() -> None: ...

    for name in ("one", "two"):
        await app.schedules.create(name, "until", HOURLY)
        await set_back(connection, name, timedelta(hours=1))
    async with fresh_ticker(app) as ticker:
        await ticker.fire_due()
    await app.schedules.run("one")
    found = await jobs(connection)
    assert [(row[f"{option}_at" if option == "expires" else option], row["ends_at"]) for row in found] == [
        (moment, moment)
    ] * 3


async def test_nothing_fires_by_what_was_read_before_an_edit(app: Rowlock, connection: Connection) -> None:
    await app.schedules.create("one", "report", HOURLY)
    await set_back(connection, "one", timedelta(hours=1))
    row = (await connection.fetch(statement("due_schedules", "rowlock"), ["report"], [], timedelta(0), 10))[0]
    told = [row["name"], row["next_run_at"], row["updated_at"], row["last_job_id"]]
    fire = [[row["now"]], [uuid7()], row["now"], *columns.of_task(None)]
    await app.schedules.run("one")
    assert await connection.fetch(statement("fire_ticks", "rowlock"), *told, *fire) == [], "another job is the last one"
    told[3] = (await app.schedules.get("one")).last_job_id
    await app.schedules.edit("one", args={"kind": "new"})
    assert await connection.fetch(statement("fire_ticks", "rowlock"), *told, *fire) == []
    told[2] = (await app.schedules.pause("one")).updated_at
    assert await connection.fetch(statement("fire_ticks", "rowlock"), *told, *fire) == [], "it is paused"
    assert len(await jobs(connection)) == 1


async def fire_and_be_cut_off(app: Rowlock, chance: random.Random) -> None:
    """What a worker does that is killed now and then, and comes back."""
    async with fresh_ticker(app) as ticker:
        for _ in range(12):
            round_ = asyncio.create_task(ticker.fire_due())
            await asyncio.sleep(chance.random() * 0.02)
            if chance.random() < 0.3:
                round_.cancel()
            await asyncio.gather(round_, return_exceptions=True)


async def edit_at_random(app: Rowlock, names: list[str], chance: random.Random) -> None:
    for _ in range(10):
        await app.schedules.edit(chance.choice(names), args={"kind": str(chance.random())})
        await asyncio.sleep(chance.random() * 0.02)


@pytest.mark.parametrize("seed", range(3))
async def test_many_workers_make_one_job_a_tick(
    seed: int, app: Rowlock, settings: Settings, ticker: Ticker, connection: Connection
) -> None:
    """Eight fire at once, over and over, some are cut off in the middle, and meanwhile people edit."""
    chance = random.Random(seed)
    names = [f"s{n}" for n in range(6)]
    for name in names:
        await app.schedules.create(name, "report", "*/2 * * * * *", misfire="all")
        await set_back(connection, name, timedelta(minutes=chance.randint(5, 30)))
    starts = await connection.fetch("SELECT name, next_run_at FROM rowlock.schedule")
    workers = (fire_and_be_cut_off(app, random.Random(chance.random())) for _ in range(8))
    await asyncio.gather(*workers, edit_at_random(app, names, chance))

    async def nothing_left() -> bool:
        await ticker.fire_due()
        behind = "SELECT count(*) FROM rowlock.schedule WHERE next_run_at < clock_timestamp() - interval '3 seconds'"
        return bool(await connection.fetchval(behind) == 0)

    await eventually(nothing_left)
    ticks = await connection.fetch("SELECT schedule, tick_at, job_id FROM rowlock.schedule_tick ORDER BY tick_at")
    for row in starts:
        fired = [tick["tick_at"] for tick in ticks if tick["schedule"] == row["name"]]
        assert fired == list(Cron("*/2 * * * * *", "UTC").ticks(row["next_run_at"], fired[-1]))
    assert {row["id"] for row in await jobs(connection)} == {tick["job_id"] for tick in ticks}


async def test_running_worker_fires_soon_after_the_tick(app: Rowlock, connection: Connection) -> None:
    async with app.worker():
        await app.schedules.create("one", "report", "* * * * * *")

        async def some() -> bool:
            return len(await app.schedules.ticks("one")) >= 2

        await eventually(some)
    for tick in await app.schedules.ticks("one"):
        assert tick.fired_at - tick.tick_at < timedelta(seconds=1.5)


async def test_idle_worker_asks_about_once_a_second(app: Rowlock, ticker: Ticker, connection: Connection) -> None:
    assert 0.7 < await ticker.fire_due() < 1.3
    await app.schedules.create("one", "report", "@yearly")
    assert 0.7 < await ticker.fire_due() < 1.3
    await connection.execute("UPDATE rowlock.schedule SET next_run_at = clock_timestamp() + interval '0.4 seconds'")
    assert 0.1 < await ticker.fire_due() < 0.5


async def test_row_that_somebody_holds_is_left_alone_and_not_asked_for_at_once(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    await app.schedules.create("one", "report", HOURLY)
    await set_back(connection, "one", timedelta(hours=1))
    async with connection.transaction():
        await connection.execute("SELECT FROM rowlock.schedule FOR UPDATE")
        assert await ticker.fire_due() >= 0.1
    assert await jobs(connection) == []


async def test_old_ticks_are_forgotten_but_for_the_last_thousand_and_the_last_week(
    app: Rowlock, connection: Connection
) -> None:
    for name in ("old", "new"):
        await app.schedules.create(name, "report", HOURLY)
    await connection.execute(
        "INSERT INTO rowlock.schedule_tick SELECT name, now() - n * interval '1 hour', rowlock.uuid7(), "
        "CASE name WHEN 'old' THEN now() - n * interval '1 hour' ELSE now() END "
        "FROM rowlock.schedule, generate_series(1, 1200) n"
    )
    pruned = await connection.fetchval(statement("prune_ticks", "rowlock"), 1000, timedelta(days=7))
    assert pruned == 200
    left = await connection.fetch(
        "SELECT schedule, count(*), min(tick_at) FROM rowlock.schedule_tick GROUP BY 1 ORDER BY 1"
    )
    assert [(row["schedule"], row["count"]) for row in left] == [("new", 1200), ("old", 1000)]
    assert left[1]["min"] > datetime.now(UTC) - timedelta(hours=1001)


# Declared in code.


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
    with pytest.raises(InvalidOption, match="cron 'soon'"):

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

    with pytest.raises(InvalidOption, match="'three' is that of another schedule"):

        @app.task(schedule=["@daily", "@hourly"])
        def three() -> None: ...

    with pytest.raises(InvalidOption, match="'report' is that of another schedule"):
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
