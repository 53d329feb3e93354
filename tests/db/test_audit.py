"""The audit: silent after any honest work, however it went."""

from __future__ import annotations

import pytest

from rowlock import Job, Retry, Rowlock, Settings, Snooze, Unique
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.read.audits import INVARIANTS, audit
from rowlock.worker.duties.statistics import StatisticsDuty
from tests.counting import count_alone
from tests.db.audited import (
    HOLDING,
    OTHER,
    RECORDED,
    REGISTERED,
    RUNNING,
    WORKER,
    Connection,
    after_work,
    application,
    broken,
    is_over,
)
from tests.waiting import eventually


@pytest.fixture
async def app(settings: Settings, connection: Connection) -> Rowlock:
    return await after_work(settings, connection)


async def test_what_went_through_everything_is_as_it_must_be(app: Rowlock, connection: Connection) -> None:
    found = {one.invariant: one for one in await audit(app.database)}
    assert [one for one in found.values() if one.status not in {"kept", "empty"}] == []
    assert set(found) == {name for names in INVARIANTS.values() for name in names}
    for name in ("job in both tables", "attempt of no job", "unique key without its job", "tick without its job"):
        assert found[name].looked_at > 0, name
    assert found["job in both tables"].looked_at == await connection.fetchval(
        "SELECT count(*) FROM rowlock.finished_job"
    )
    assert found["two live jobs with one key"].looked_at == 1
    assert found["failed job without its last attempt"].looked_at == 2
    assert found["schedule left behind"].looked_at == found["schedule whose last job is nowhere"].looked_at == 1
    await app.close()


async def test_what_runs_is_as_it_must_be(settings: Settings) -> None:
    app = application(settings)
    begun: list[Job] = []

    @app.task
    async def endless(job: Job) -> None:
        begun.append(job)
        await eventually(lambda: len(begun) < 0, timeout=60)

    async with app, app.worker():
        await endless.using(unique=Unique("start", until="start")).enqueue()
        await endless.using(deadline=3600, expires=60).enqueue()
        await eventually(lambda: len(begun) == 2)
        found = {one.invariant: one for one in await audit(app.database)}
        assert found["running job without a lease"].looked_at >= 2  # and perhaps a tick
        assert {one.status for one in found.values()} <= {"kept", "empty"}
        for job in begun:
            await app.jobs.cancel(job.id)
        assert await broken(app.database) == {}


STARTED = f"UPDATE rowlock.job SET state = 'running', attempt = 1, worker = '{OTHER}', started_at = now()"
WAITS = "state = 'queued', worker = NULL, started_at = NULL"


async def test_without_the_mark_of_the_statistics_they_are_not_said_to_be_kept(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute("DELETE FROM rowlock.statistic_mark")
    (found,) = [one for one in await audit(app.database) if one.invariant == "slot of statistics that counts too few"]
    assert found.status == "unknown"
    assert "is missing" in str(found.why_not)


async def test_what_was_counted_a_second_time_is_compared_with_the_archive(
    app: Rowlock, settings: Settings, direct_url: str, connection: Connection
) -> None:
    """Move everything back by five minutes, so that all of it is due for the second count."""
    await connection.execute("TRUNCATE rowlock.statistic")
    for archive in ("finished_job", "attempt"):
        await connection.execute(f"UPDATE rowlock.{archive} SET finished_at = finished_at - interval '5 minutes'")
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - interval '10 minutes'")
    control = ControlConnection(settings, direct_url, purpose="upkeep")
    await count_alone(connection, StatisticsDuty(control, app.database))
    name = "slot of statistics that counts too few"
    (found,) = [one for one in await audit(app.database) if one.invariant == name]
    assert (found.status, found.looked_at > 0) == ("kept", True)
    await connection.execute("UPDATE rowlock.statistic SET succeeded = succeeded - 1 WHERE step = 60 AND succeeded > 0")
    assert name in await broken(app.database)
    await control.close()
    await app.close()


async def test_what_retention_removes_leaves_nothing_broken(app: Rowlock, connection: Connection) -> None:
    """Attempts, progress and ticks go later than their jobs: what is older than the rules is not held against them."""
    gone = "DELETE FROM rowlock.finished_job"
    await connection.execute("INSERT INTO rowlock.queue (name, keep_failed) VALUES ('*', '1 hour')")
    await connection.execute(gone)
    found = {one.invariant: one for one in await audit(app.database)}
    for name in ("attempt of no job", "progress of no job", "tick without its job"):
        assert (found[name].status, found[name].looked_at) == ("empty", 0)
    await connection.execute("UPDATE rowlock.queue SET updated_at = now() - interval '2 hours'")
    assert {"attempt of no job", "progress of no job", "tick without its job"} <= set(await broken(app.database))
    await app.close()


async def test_a_second_attempt_s_end_may_be_either_limit(settings: Settings, connection: Connection) -> None:
    app = application(settings)
    await app.tasks["work"].using(expires=3600, deadline=7200).enqueue("succeed")
    await connection.execute("UPDATE rowlock.job SET attempt = 1")  # as one that was released
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.job SET ends_at = deadline")
    assert await broken(app.database) == {}
    await app.close()


async def test_without_a_worker_nobody_is_late(app: Rowlock, connection: Connection) -> None:
    for statement in (
        REGISTERED.format(id=WORKER, age="1 hour", left="-20 minutes"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        HOLDING,
        "UPDATE rowlock.duty SET next_run_at = now() - interval '20 minutes'",
    ):
        await connection.execute(statement)
    assert await broken(app.database) == {}
    await connection.execute(REGISTERED.format(id=OTHER, age="1 minute", left="1 hour"))
    assert await broken(app.database) == {}, "one that has only just come has had no time"
    await connection.execute("UPDATE rowlock.worker SET started_at = now() - interval '1 hour'")
    assert set(await broken(app.database)) == {"running job without a lease", "duty left undone"}
    await app.close()


async def test_keys_of_several_kinds_are_held_one_after_the_other(settings: Settings, connection: Connection) -> None:
    """A key that was free again, after a period or a start, is in two live jobs: both of them are as they must be."""
    async with application(settings) as app:
        work = app.tasks["work"]
        await work.using(delay=3600, unique=Unique("period", period=0.05)).enqueue("succeed")
        await eventually(lambda: _is_period_over(connection), timeout=30)
        await work.using(unique=Unique("period")).enqueue("succeed")
        started = await work.using(unique=Unique("start", until="start")).enqueue("succeed")
        await connection.execute(f"{STARTED} WHERE id = $1", started.id)
        await connection.execute(HOLDING)
        await work.using(unique=Unique("start")).enqueue("succeed")
        assert await broken(app.database) == {}
        snoozed = f"UPDATE rowlock.job SET {WAITS}, run_at = now() WHERE id = $1"
        await connection.execute(snoozed, started.id)
        assert await broken(app.database) == {}


async def _is_period_over(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT bool_and(expires_at < now()) FROM rowlock.unique_key"))


async def test_a_replaced_job_may_have_more_errors_than_attempts(settings: Settings, connection: Connection) -> None:
    async with application(settings) as app:
        work, unique = app.tasks["work"], Unique("again", on_duplicate="replace")
        job = await work.using(unique=unique).enqueue("succeed")
        await connection.execute("UPDATE rowlock.job SET errors = 3, attempt = 3")
        assert (await work.using(unique=unique, max_attempts=2, queue="elsewhere").enqueue("succeed")).id == job.id
        await connection.execute(RECORDED.format(job=f"'{job.id}'", attempt=3, at="now()"))
        assert await broken(app.database) == {}


async def test_what_has_only_just_come_back_is_not_late(app: Rowlock, connection: Connection) -> None:
    """A job whose time was over while it ran, a schedule that was resumed, and one that makes up for every tick."""
    await connection.execute(REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"))
    await connection.execute("UPDATE rowlock.worker SET tasks = '{work,tick}'")
    await connection.execute(
        "UPDATE rowlock.job SET created_at = now() - interval '1 hour', deadline = now() - interval '20 minutes', "
        "expires_at = NULL, ends_at = now() - interval '20 minutes', attempt = 1, run_at = now()"
    )
    late = "UPDATE rowlock.schedule SET next_run_at = now() - interval '20 minutes'"
    await connection.execute(late + ", updated_at = now()")
    assert await broken(app.database) == {}
    await connection.execute(late + ", updated_at = now() - interval '1 hour', misfire = 'all'")
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.schedule SET misfire = 'latest', is_paused = true")
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.schedule SET is_paused = false")
    await connection.execute("UPDATE rowlock.job SET run_at = now() - interval '20 minutes'")
    assert set(await broken(app.database)) == {"waiting job whose time is over", "schedule left behind"}
    await connection.execute("UPDATE rowlock.duty SET set_at = now() - interval '18 minutes'")
    assert await broken(app.database) == {}, "the duty that ends them has not run since"
    await app.close()


async def test_a_schedule_that_makes_up_for_every_tick_is_left_behind_once_it_fires_no_more(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute(REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"))
    await connection.execute("UPDATE rowlock.worker SET tasks = '{work,tick}'")
    await connection.execute(
        "UPDATE rowlock.schedule SET misfire = 'all', next_run_at = now() - interval '20 minutes', "
        "updated_at = now() - interval '1 hour'"
    )
    assert await broken(app.database) == {}, "it has fired lately"
    await connection.execute(
        "UPDATE rowlock.schedule_tick "
        "SET tick_at = tick_at - interval '1 hour', fired_at = now() - interval '20 minutes'"
    )
    assert set(await broken(app.database)) == {"schedule left behind"}
    await connection.execute("UPDATE rowlock.schedule SET overlap = 'skip'")
    assert await broken(app.database) == {}, "it skips rounds while its last job runs, and no tick says so"
    await app.close()


@pytest.mark.slow
async def test_in_the_middle_of_work_nothing_is_broken(settings: Settings, connection: Connection) -> None:
    """A retry and a snooze that wait, a job that runs and is to be cancelled, a paused queue, one set aside."""
    app = application(settings)
    begun: list[Job] = []

    @app.task(backoff=3600)
    async def stay(job: Job, how: str) -> None:
        begun.append(job)
        match how:
            case "snooze":
                raise Snooze(3600)
            case "retry":
                raise Retry(3600)
            case "error":
                raise ValueError("not yet")
            case _:
                await eventually(lambda: len(begun) < 0, timeout=60)

    async with app:
        await app.queues.pause("paused")
        await stay.using(queue="paused", expires=3600, unique=Unique("paused")).enqueue("run")
        crashed = await stay.enqueue("run")
        await connection.execute(f"{STARTED} WHERE id = $1", crashed.id)
        await connection.execute("UPDATE rowlock.job SET crashes = 2, attempt = 3 WHERE id = $1", crashed.id)
        async with app.worker(queues=["default", "paused"]) as worker:
            await eventually(lambda: is_over(app, crashed.id), timeout=30)
            for how in ("snooze", "retry", "error"):
                await stay.using(deadline=7200).enqueue(how)
            for until in ("start", "finish"):
                await stay.using(unique=Unique(until, until=until)).enqueue("run")
            await eventually(lambda: len(begun) == 5, timeout=30)
            await eventually(lambda: _is_waiting_again(connection), timeout=30)
            await stay.using(unique=Unique("start", until="start")).enqueue("snooze")
            assert await broken(app.database) == {}
            await app.jobs.cancel(begun[-1].id)
            await app.jobs.retry(crashed.id)
            assert await broken(app.database) == {}
            worker.stop(grace=0)


async def _is_waiting_again(connection: Connection) -> bool:
    again = "SELECT count(*) = 3 FROM rowlock.job WHERE state = 'queued' AND attempt = 1"
    return bool(await connection.fetchval(again))
