"""What fires the ticks of schedules: at most one job a tick, whoever comes first and whatever fails."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from rowlock import InvalidOption, Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.queue.connect.statements import statement
from rowlock.queue.enqueue import columns
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.schedules.cron import Cron
from rowlock.queue.schedules.schedule import Misfire
from rowlock.worker.ticker import Ticker
from tests.db.scheduled import HOURLY, SKIPPED, Connection, fired_one, fresh_ticker, jobs, now, set_back
from tests.logged import capture_logs
from tests.waiting import eventually


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
    fired = await app.jobs.list()
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


async def test_a_worker_asks_again_when_a_tick_comes_soon_and_otherwise_when_one_is_noticed(
    app: Rowlock, ticker: Ticker, connection: Connection
) -> None:
    assert await ticker.fire_due() == math.inf
    await app.schedules.create("one", "report", "@yearly")
    assert await ticker.fire_due() == math.inf
    await connection.execute("UPDATE rowlock.schedule SET next_run_at = clock_timestamp() + interval '0.4 seconds'")
    assert 0.1 < await ticker.fire_due() < 0.5


async def test_schedule_that_failed_and_is_paused_or_gone_is_no_reason_to_look(
    app: Rowlock, ticker: Ticker, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.ticker.LOOK_EVERY", 0.01)
    await app.schedules.create("one", "report", HOURLY)
    await connection.execute("UPDATE rowlock.schedule SET cron = 'whenever', next_run_at = now() - interval '1 hour'")
    await ticker.fire_due()
    await app.schedules.pause("one")
    await asyncio.sleep(0.02)
    assert await ticker.fire_due() == math.inf


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
