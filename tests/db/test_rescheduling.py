"""What operators change of waiting jobs: when they are due, their priority, their queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import InvalidOption, Job, JobFilter, JobNotFound, Retry, Rowlock, Settings, Unique, WrongState
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.filter import Sight
from rowlock.queue.read.audits import audit
from rowlock.queue.read.reader import list_attempts
from tests.db.claimants import CLAIMANT, register
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

HOUR = 3600
NO_JOB = uuid4()


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = replace(Settings(database_url=database_url), poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def echo(value: object = None) -> object:
            return value

        @app.task
        async def fail_once(job: Job) -> int:
            if job.attempt == 1:
                raise Retry(HOUR, reason="not yet")
            return job.attempt

        yield app


async def row_of(connection: Connection, job: UUID) -> dict[str, Any]:
    row = await connection.fetchrow("SELECT * FROM rowlock.job WHERE id = $1", job)
    assert row is not None
    return dict(row)


# What is changed, and what is not.


async def test_a_scheduled_job_is_run_now(app: Rowlock) -> None:
    job = await app.enqueue("echo", {"value": 7}, delay=HOUR)
    assert await app.worker().drain() == 0
    due = await app.jobs.run_now(job.id, by="ada")
    assert (due.id, due.state) == (job.id, "queued")
    assert await app.worker().drain() == 1
    assert await job.result(timeout=10) == 7


async def test_what_is_named_changes_and_nothing_else(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue(
        "echo", {"value": 7}, delay=HOUR, unique=Unique("k", period=HOUR), deadline=9 * HOUR, tags=["a"], timeout=5
    )
    before = await row_of(connection, job.id)
    at = datetime.now(UTC) + timedelta(hours=3)
    changed = await app.jobs.reschedule(job.id, run_at=at, priority=9, queue="bulk")
    assert (changed.run_at, changed.priority, changed.queue, changed.state) == (at, 9, "bulk", "scheduled")
    assert await row_of(connection, job.id) == before | {"run_at": at, "priority": 9, "queue": "bulk"}
    await app.jobs.reschedule(str(job.id), priority=0)
    assert await row_of(connection, job.id) == before | {"run_at": at, "priority": 0, "queue": "bulk"}
    again = await app.enqueue("echo", unique=Unique("k", period=HOUR))
    assert (again.id, again.is_duplicate) == (job.id, True), "it holds its key as before"


async def test_a_delay_counts_from_now_and_a_time_that_is_over_means_now(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    for given, seconds in (({"delay": 60}, 60), ({"run_at": datetime(2001, 1, 1, tzinfo=UTC)}, 0)):
        began = await connection.fetchval("SELECT clock_timestamp()")
        changed = await app.jobs.reschedule(job.id, **given)
        ended = await connection.fetchval("SELECT clock_timestamp()")
        assert began <= changed.run_at - timedelta(seconds=seconds) <= ended


async def test_a_reschedule_is_recorded_with_who_and_what_was_before(app: Rowlock) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    before = await job.get()
    after = await app.jobs.reschedule(job.id, delay=2 * HOUR, queue="bulk", by="ada")
    (told,) = await app.operations()
    assert (told.verb, told.target_kind, told.target, told.by, told.source) == (
        "reschedule",
        "job",
        str(job.id),
        "ada",
        "python",
    )
    was = {"run_at": before.run_at, "queue": "default"}
    details = {"run_at": after.run_at, "queue": "bulk"}
    assert {name: _read(value) for name, value in told.details.items() if name != "before"} == details
    assert {name: _read(value) for name, value in told.details["before"].items()} == was


def _read(value: str) -> object:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return value


async def test_a_retrying_job_is_tried_now_and_keeps_its_history(app: Rowlock) -> None:
    job = await app.enqueue("fail_once")
    await app.worker().drain()
    waiting = await job.get()
    assert (waiting.state, waiting.attempt, waiting.errors) == ("retrying", 1, 1)
    due = await app.jobs.run_now(job.id)
    assert (due.state, due.attempt, due.errors, due.error) == ("retrying", 1, 1, waiting.error)
    await app.worker().drain()
    assert await job.result(timeout=10) == 2
    assert [attempt["attempt"] for attempt in await list_attempts(app.database, job.id)] == [1]


async def test_a_job_on_its_last_chance_is_run_now(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    await connection.execute("UPDATE rowlock.job SET crashes = 2, attempt = 2")
    await app.jobs.run_now(job.id)
    async with app.worker():
        await job.result(timeout=30)


async def test_a_job_of_a_paused_queue_waits_until_that_is_resumed(app: Rowlock) -> None:
    await app.queues.pause("bulk")
    job = await app.enqueue("echo", delay=HOUR)
    await app.jobs.reschedule(job.id, delay=0, queue="bulk")
    worker = app.worker(queues=["bulk"])
    assert await worker.drain() == 0
    assert (await job.get()).state == "queued"
    await app.queues.resume("bulk")
    assert await app.worker(queues=["bulk"]).drain() == 1


async def test_the_audit_finds_nothing_wrong_with_what_was_rescheduled(app: Rowlock) -> None:
    retried = await app.enqueue("fail_once")
    limited: list[dict[str, Any]] = [{"delay": HOUR, "deadline": 2 * HOUR}, {"expires": HOUR, "unique": "k"}]
    for options in limited:
        job = await app.enqueue("echo", **options)
        await app.jobs.reschedule(job.id, delay=60, priority=1)
    await app.worker().drain()
    await app.jobs.reschedule(retried.id, delay=0, queue="bulk")
    assert [one for one in await audit(app.database) if one.status == "broken"] == []
    await app.worker(queues=["default", "bulk"]).drain()
    assert (await retried.get()).state == "succeeded"
    assert [one for one in await audit(app.database) if one.status == "broken"] == []


# What cannot be changed.


async def test_what_does_not_wait_is_refused_and_nothing_is_recorded(app: Rowlock, connection: Connection) -> None:
    finished = await app.enqueue("echo")
    await app.worker().drain()
    running, blocked = await app.enqueue("echo"), await app.enqueue("echo")
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 1 WHERE id = $1", running.id, CLAIMANT
    )
    block = "UPDATE rowlock.job SET state = 'blocked', run_at = 'infinity', due_at = run_at WHERE id = $1"
    await connection.execute(block, blocked.id)
    for job, state in ((finished, "succeeded"), (running, "running"), (blocked, "blocked")):
        before = await job.get()
        with pytest.raises(WrongState, match=f"it is {state}") as refused:
            await app.jobs.reschedule(job.id, delay=0, priority=1)
        assert refused.value.state == state
        assert (await job.get()).priority == before.priority
    for unknown in (NO_JOB, "no id"):
        with pytest.raises(JobNotFound):
            await app.jobs.run_now(unknown)
    assert await app.operations() == []


@pytest.mark.parametrize("limit", ["expires", "deadline"])
async def test_a_time_after_the_job_s_limit_is_refused(limit: str, app: Rowlock, connection: Connection) -> None:
    options: dict[str, Any] = {limit: 2 * HOUR}
    job = await app.enqueue("echo", delay=HOUR, **options)
    before = await row_of(connection, job.id)
    with pytest.raises(InvalidOption, match="delay must end before") as by_delay:
        await app.jobs.reschedule(job.id, delay=3 * HOUR)
    with pytest.raises(InvalidOption, match="run_at must be before") as by_time:
        await app.jobs.reschedule(job.id, run_at=datetime.now(UTC) + timedelta(hours=3))
    assert (by_delay.value.option, by_time.value.option) == ("delay", "run_at")
    assert await row_of(connection, job.id) == before
    assert await app.operations() == []
    await app.jobs.reschedule(job.id, delay=HOUR)


async def test_a_job_that_expires_only_before_its_first_start_may_be_tried_later(app: Rowlock) -> None:
    job = await app.enqueue("fail_once", expires=HOUR)
    await app.worker().drain()
    assert (await app.jobs.reschedule(job.id, delay=2 * HOUR)).state == "retrying"


async def test_a_job_whose_time_is_over_is_not_run_now(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo", deadline=HOUR)
    await connection.execute("UPDATE rowlock.job SET deadline = now(), ends_at = now()")
    with pytest.raises(WrongState, match="its time was over at"):
        await app.jobs.run_now(job.id)
    await connection.execute("UPDATE rowlock.job SET ends_at = '-infinity'")  # as when another job has its key
    with pytest.raises(WrongState, match="its time was over at 2"):
        await app.jobs.run_now(job.id)
    await connection.execute("UPDATE rowlock.job SET cancel_requested_at = now(), ends_at = '-infinity'")
    with pytest.raises(WrongState, match="its cancel was requested"):
        await app.jobs.reschedule(job.id, priority=9)
    assert await app.operations() == []


async def test_a_job_that_would_be_due_too_late_anyway_may_change_its_priority(
    app: Rowlock, connection: Connection
) -> None:
    job = await app.enqueue("echo", delay=HOUR, deadline=2 * HOUR)
    await connection.execute("UPDATE rowlock.job SET run_at = run_at + interval '5 hours'")
    assert (await app.jobs.reschedule(job.id, priority=9)).priority == 9


@pytest.mark.parametrize(
    "given, word",
    [
        ({}, "must change something"),
        ({"delay": 1, "run_at": datetime.now(UTC)}, "must not both be given"),
        ({"delay": -1}, "delay must .*; got -1"),
        ({"delay": "soon"}, "delay must .*; got 'soon'"),
        ({"run_at": datetime(2030, 1, 1)}, "run_at must have a time zone"),  # noqa: DTZ001  # that is what is refused
        ({"run_at": datetime(9999, 12, 31, tzinfo=UTC)}, "run_at must be a time"),
        ({"priority": 10}, "priority must .*; got 10"),
        ({"priority": True}, "priority must .*; got True"),
        ({"queue": "no queue"}, "queue must .*; got 'no queue'"),
        ({"queue": ".."}, r"queue must .*; got '\.\.'"),
    ],
)
async def test_values_that_make_no_sense_are_refused(given: dict[str, Any], word: str, app: Rowlock) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    with pytest.raises(InvalidOption, match=word):
        await app.jobs.reschedule(job.id, **given)
    with pytest.raises(InvalidOption, match=word):
        await app.jobs.reschedule_many(JobFilter(task="echo"), **given)
    assert (await job.get()).state == "scheduled"


# The statement decides, and the claims find the job.


@pytest.mark.parametrize("is_claimed", [True, False], ids=["commits", "rolls back"])
async def test_a_claim_that_is_under_way_is_waited_for(is_claimed: bool, app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo")
    claim = connection.transaction()
    await claim.start()
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $1, attempt = 1, started_at = now()", CLAIMANT
    )
    act = asyncio.create_task(app.jobs.reschedule(job.id, priority=9))
    async with app.database.connection() as observer:
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        await eventually(lambda: observer.fetchval(waits))
    if is_claimed:
        await claim.commit()
        with pytest.raises(WrongState, match="it is running"):
            await act
        assert await app.operations() == []
    else:
        await claim.rollback()
        assert (await act).priority == 9


async def test_of_many_reschedules_at_once_each_follows_another(app: Rowlock) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    await asyncio.gather(*(app.jobs.reschedule(job.id, priority=priority) for priority in range(10)))
    told = [operation.details for operation in await app.operations()]
    ends = [(await job.get()).priority, *(one["before"]["priority"] for one in told)]
    assert sorted(ends) == sorted([5, *range(10)]), "each found what another one had left"


async def test_a_job_that_has_left_the_queues_of_the_caller_is_not_there(app: Rowlock) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    with pytest.raises(JobNotFound):
        await app.jobs.through(Origin(), sight=Sight(queues=frozenset({"bulk"}))).run_now(job.id)
    assert (await job.get()).state == "scheduled"
    await app.jobs.through(Origin(), sight=Sight(queues=frozenset({"default"}))).run_now(job.id)
    assert (await job.get()).state == "queued"


@asynccontextmanager
async def settled_claims(settings: Settings, connection: Connection) -> AsyncIterator[Claims]:
    """Claims whose cursors have settled in every lane, past whatever is due."""
    assert settings.database_url is not None
    await register(connection)
    control = ControlConnection(settings, settings.database_url, purpose="claim")
    try:
        claims = Claims(control, ("default",), ["echo"])
        for _ in range(5):
            await connection.execute("SELECT rowlock.enqueue('echo')")
            assert len(await claims.claim(CLAIMANT, 10, {})) == 1
        assert len(claims.settled) == 10
        yield claims
    finally:
        await control.close()


@pytest.mark.parametrize(
    "given",
    [{"queue": "default"}, {"queue": "default", "priority": 3}, {"queue": "default", "delay": 0}],
    ids=["queue", "queue and priority", "queue and time"],
)
async def test_a_job_that_was_due_long_before_it_came_into_a_lane_is_found_there(
    given: dict[str, Any], app: Rowlock, connection: Connection
) -> None:
    job = await app.enqueue("echo", queue="unserved")
    await connection.execute("UPDATE rowlock.job SET run_at = now() - interval '1 hour'")
    async with settled_claims(app.settings, connection) as claims:
        assert await claims.claim(CLAIMANT, 10, {}) == []
        await app.jobs.reschedule(job.id, **given)
        assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job.id]


async def test_a_due_job_that_changes_its_priority_is_found(app: Rowlock, connection: Connection) -> None:
    async with settled_claims(app.settings, connection) as claims:
        job = await app.enqueue("echo")
        await app.jobs.reschedule(job.id, priority=9)
        assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job.id]


async def test_a_due_job_that_is_run_now_keeps_its_place(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo")
    place = "SELECT ctid, xmin, run_at FROM rowlock.job"
    before = await connection.fetchrow(place)
    assert (await app.jobs.run_now(job.id)).state == "queued"
    await app.jobs.reschedule(job.id, priority=5, queue="default", run_at=datetime(2001, 1, 1, tzinfo=UTC))
    assert (await app.jobs.reschedule_many(JobFilter(task="echo"), delay=0)).count == 1
    assert await connection.fetchrow(place) == before, "the row was not touched"
    assert len(await app.operations()) == 3


async def test_a_scheduled_job_that_is_run_now_is_found_although_the_cursors_have_settled(
    app: Rowlock, connection: Connection
) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    async with settled_claims(app.settings, connection) as claims:
        await app.jobs.run_now(job.id)
        assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job.id]


async def test_a_job_whose_reschedule_was_slow_to_commit_is_found(app: Rowlock, connection: Connection) -> None:
    job = await app.enqueue("echo", delay=HOUR)
    async with settled_claims(app.settings, connection) as claims, app.database.connection() as slow:
        transaction = slow.transaction()
        await transaction.start()
        await slow.fetch(statement("reschedule", "rowlock"), [job.id], None, timedelta(0), None, None, None)
        for _ in range(3):  # the cursors pass the time that it has now
            await connection.execute("SELECT rowlock.enqueue('echo')")
            assert len(await claims.claim(CLAIMANT, 10, {})) == 1
        await transaction.commit()
        assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [job.id]


@pytest.mark.needs_session("it waits for a notification")
@pytest.mark.parametrize("delay", [0, 0.5])
async def test_a_worker_that_sleeps_hears_of_an_earlier_time(
    delay: float, app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await app.enqueue("echo", {"value": 7}, delay=HOUR)
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 0.001}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    app.database.settings = replace(app.settings, poll_interval=timedelta(seconds=60))
    async with app.worker(), app.database.connection() as connection:
        await eventually(lambda: connection.fetchval("SELECT count(*) FROM rowlock.idle_worker"))
        await app.jobs.reschedule(job.id, delay=delay)
        assert await job.result(timeout=20) == 7


@pytest.mark.needs_session("it waits for a notification")
async def test_the_workers_of_the_new_queue_are_woken(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await app.enqueue("echo", {"value": 7})
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 0.001}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    app.database.settings = replace(app.settings, poll_interval=timedelta(seconds=60))
    async with app.worker(queues=["bulk"]), app.database.connection() as connection:
        await eventually(lambda: connection.fetchval("SELECT count(*) FROM rowlock.idle_worker"))
        await app.jobs.reschedule(job.id, queue="bulk")
        assert await job.result(timeout=20) == 7


# Many at once.


async def test_all_scheduled_jobs_of_a_task_are_run_now(app: Rowlock) -> None:
    await app.enqueue_many([app.tasks["echo"].using(delay=HOUR).job(n) for n in range(5)])
    other = await app.enqueue("fail_once", delay=HOUR)
    which = JobFilter(task="echo", state="scheduled")
    would = await app.jobs.reschedule_many(which, delay=0, dry_run=True)
    assert (would.count, would.is_dry_run) == (5, True)
    assert len(await app.jobs.list(which)) == 5
    done = await app.jobs.reschedule_many(which, delay=0, by="ada")
    assert (done.count, done.skipped, len(done.first_ids)) == (5, 0, 5)
    assert await app.worker().drain() == 5
    assert (await other.get()).state == "scheduled"
    (told,) = await app.operations()
    assert (told.verb, told.target, told.by) == ("reschedule", None, "ada")
    assert told.details == {
        "filter": {"state": "scheduled", "task": "echo"},
        "to": {"delay": 0.0},
        "rescheduled": 5,
    }


async def test_of_many_only_those_that_wait_and_have_the_time_are_changed(app: Rowlock, connection: Connection) -> None:
    running, waiting, limited = [await app.enqueue("echo", deadline=HOUR if n == 2 else None) for n in range(3)]
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 1 WHERE id = $1", running.id, CLAIMANT
    )
    would = await app.jobs.reschedule_many(JobFilter(task="echo"), delay=2 * HOUR, dry_run=True)
    assert would.count == 2, "what runs is not among them"
    done = await app.jobs.reschedule_many(JobFilter(task="echo"), delay=2 * HOUR, queue="bulk")
    assert (done.count, done.skipped) == (1, 1)
    jobs = [await job.get() for job in (running, waiting, limited)]
    assert [(job.state, job.queue) for job in jobs] == [
        ("running", "default"),
        ("scheduled", "bulk"),
        ("queued", "default"),
    ]


@pytest.mark.parametrize("which", [JobFilter(state="running"), JobFilter(state="failed"), JobFilter(discarded=True)])
async def test_states_that_do_not_wait_are_refused(which: JobFilter, app: Rowlock) -> None:
    with pytest.raises(InvalidOption, match="state must be that of waiting jobs"):
        await app.jobs.reschedule_many(which, delay=0)


async def test_a_filter_that_means_every_job_is_refused_unless_that_is_meant(app: Rowlock) -> None:
    await app.enqueue("echo", delay=HOUR)
    with pytest.raises(InvalidOption, match="everything"):
        await app.jobs.reschedule_many(JobFilter(), delay=0)
    assert (await app.jobs.reschedule_many(JobFilter(), delay=0, everything=True)).count == 1
