"""Finished jobs that somebody deletes for good: nothing of them is left, and nothing else changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import Job, JobFailed, JobHandle, JobNotFound, LockTimeout, Retry, Rowlock, Settings, Unique, WrongState
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.read.audits import audit
from rowlock.worker.duties.statistics import StatisticsDuty
from tests.counting import count_alone
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

HOUR = 3600
NO_JOB = uuid4()
TABLES = {
    "job": "id",
    "finished_job": "id",
    "attempt": "job_id",
    "attempt_log": "job_id",
    "progress": "job_id",
    "unique_key": "job_id",
    "waiter": "job_id",
}
"""The tables that say something of a job, and where they name it."""


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = replace(Settings(database_url=database_url), poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:

        @app.task(max_attempts=3, capture_logs=True)
        async def work(job: Job, *, fails: bool = False) -> dict[str, str]:
            logging.getLogger("shop").warning("at work")
            await job.progress(0.5, "half")
            await job.save_checkpoint({"page": 7})
            if job.attempt == 1:
                raise Retry(0, reason="once more")
            if fails:
                raise ValueError("no")
            return {"name": "Ada"}

        yield app


async def done(app: Rowlock, *, fails: bool = False) -> JobHandle[object]:
    """A job that has ended, and has left something in every table."""
    job = await app.tasks["work"].using(unique=Unique(f"k{fails}", period=HOUR)).enqueue(fails=fails)
    worker = app.worker()
    await eventually(lambda: _is_over(worker.drain(), job))
    return job


async def _is_over(draining: object, job: JobHandle[object]) -> bool:
    await draining  # type: ignore[misc]  # a coroutine
    return (await job.get()).is_finished


async def traces(connection: Connection, job: UUID) -> dict[str, int]:
    """In which tables there is something of the job, and how many rows."""
    counts = {
        table: await connection.fetchval(f"SELECT count(*) FROM rowlock.{table} WHERE {column} = $1", job)
        for table, column in TABLES.items()
    }
    return {table: count for table, count in counts.items() if count}


@pytest.mark.parametrize("fails", [False, True])
async def test_nothing_of_a_deleted_job_is_left(fails: bool, app: Rowlock, connection: Connection) -> None:
    job, kept = await done(app, fails=fails), await done(app, fails=not fails)
    before = await traces(connection, kept.id)
    assert set(await traces(connection, job.id)) == {"finished_job", "attempt", "attempt_log", "progress", "unique_key"}
    await app.jobs.delete(job.id, by="ada")
    assert await traces(connection, job.id) == {}
    assert await traces(connection, kept.id) == before
    for ask in (app.get(job.id), job.result(timeout=5)):
        with pytest.raises(JobNotFound):
            await ask
    assert await app.jobs.logs(job.id) == []
    assert not (await app.tasks["work"].using(unique=f"k{fails}").enqueue(fails=fails)).is_duplicate, "the key is free"


async def test_a_deletion_is_recorded_without_what_is_deleted(app: Rowlock) -> None:
    job = await done(app)
    await app.jobs.delete(str(job.id), by="ada")
    (told,) = await app.operations()
    assert (told.verb, told.target_kind, told.target, told.by, told.source) == (
        "delete",
        "job",
        str(job.id),
        "ada",
        "python",
    )
    assert told.details == {"task": "work", "queue": "default", "state": "succeeded"}


async def test_a_job_that_has_not_finished_is_not_deleted(app: Rowlock, connection: Connection) -> None:
    waiting, running = await app.enqueue("work", delay=HOUR), await app.enqueue("work")
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 1 WHERE id = $1", running.id, uuid4()
    )
    for job, state in ((waiting, "scheduled"), (running, "running")):
        with pytest.raises(WrongState, match="Cancel it first") as refused:
            await app.jobs.delete(job.id)
        assert refused.value.state == state
        assert (await job.get()).state == state
    for unknown in (NO_JOB, "no id"):
        with pytest.raises(JobNotFound):
            await app.jobs.delete(unknown)
    assert await app.operations() == []
    await app.jobs.cancel(waiting.id)
    await app.jobs.delete(waiting.id)
    with pytest.raises(JobNotFound):
        await waiting.get()


async def test_a_key_that_another_job_has_taken_since_stays(app: Rowlock, connection: Connection) -> None:
    work = app.tasks["work"]
    old = await work.using(unique="k", delay=HOUR).enqueue()
    await app.jobs.cancel(old.id)
    new = await work.using(unique="k", delay=HOUR).enqueue()
    await app.jobs.delete(old.id)
    assert await traces(connection, new.id) == {"job": 1, "unique_key": 1}


async def test_a_job_that_is_archived_twice_goes_with_all_its_rows(app: Rowlock, connection: Connection) -> None:
    job = await done(app, fails=True)
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) "
        "SELECT id, task, state, attempt, crashes, run_at, created_at, finished_at - interval '40 days', "
        "max_attempts, errors, priority, queue, args FROM rowlock.finished_job WHERE id = $1",
        job.id,
    )
    await app.jobs.delete(job.id)
    assert await traces(connection, job.id) == {}
    assert len(await app.operations()) == 1


async def test_what_was_recorded_on_other_days_goes_too(app: Rowlock, connection: Connection) -> None:
    job = await done(app, fails=True)
    for days in (2, 40):
        await connection.execute(f"SELECT rowlock.create_partition('attempt', current_date - {days})")
    for table, column in (("attempt", "finished_at"), ("attempt_log", "created_at")):
        await connection.execute(
            f"UPDATE rowlock.{table} SET {column} = {column} - attempt * interval '20 days' WHERE job_id = $1", job.id
        )
    await app.jobs.delete(job.id)
    assert await traces(connection, job.id) == {}


async def test_the_statistics_count_a_deleted_job_and_the_audit_finds_nothing_wrong(
    app: Rowlock, settings: Settings, direct_url: str, connection: Connection
) -> None:
    await app.schedules.create("nightly", "work", "0 3 * * *")
    by_hand = await app.schedules.run("nightly")
    jobs = [await done(app), await done(app, fails=True)]
    await connection.execute(
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) VALUES ('nightly', now(), $1)", by_hand.id
    )
    await connection.execute("UPDATE rowlock.schedule SET last_tick_at = now() - interval '1 minute'")
    assert (await app.get(by_hand.id)).is_finished
    for archive in ("finished_job", "attempt"):
        await connection.execute(f"UPDATE rowlock.{archive} SET finished_at = finished_at - interval '5 minutes'")
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - interval '10 minutes'")
    await connection.execute("TRUNCATE rowlock.statistic")  # a worker may have counted some, at the times of before
    control = ControlConnection(settings, direct_url, purpose="upkeep")
    statistics = StatisticsDuty(control, app.database)
    await count_alone(connection, statistics)
    before = (await app.statistics("1h")).total
    assert (before.succeeded, before.failed) == (2, 1)
    for job in (by_hand, *jobs):
        await app.jobs.delete(job.id)
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - interval '10 minutes'")
    await count_alone(connection, statistics)
    assert (await app.statistics("1h")).total == before, "counted again, it has ended all the same"
    found = {one.invariant: one for one in await audit(app.database)}
    assert [one for one in found.values() if one.status == "broken"] == []
    for name in ("tick without its job", "schedule whose last job is nowhere"):
        assert found[name].looked_at == 1
    await connection.execute("DELETE FROM rowlock.operation")
    assert {"tick without its job", "schedule whose last job is nowhere"} <= {
        one.invariant for one in await audit(app.database) if one.status == "broken"
    }, "without anybody's deletion it is wrong"
    await control.close()


async def test_of_many_deletions_and_retries_at_once_one_is_done(app: Rowlock, connection: Connection) -> None:
    job = await done(app, fails=True)
    acts = [app.jobs.delete(job.id) if n % 2 else app.jobs.retry(job.id) for n in range(8)]
    answers = await asyncio.gather(*acts, return_exceptions=True)
    refused = [one for one in answers if isinstance(one, WrongState | JobNotFound)]
    assert len(refused) == 7
    (told,) = await app.operations()
    left = await traces(connection, job.id)
    assert left == {} if told.verb == "delete" else left["job"] == 1


async def test_a_job_that_an_open_transaction_holds_is_not_waited_for_long(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.operate.act.ACT_LOCK_WAIT", "50ms")
    job, waiting = await done(app), await app.enqueue("work", delay=HOUR)
    before = await traces(connection, job.id)
    async with connection.transaction():
        await connection.execute("SELECT FROM rowlock.finished_job FOR UPDATE")
        await connection.execute("SELECT FROM rowlock.job FOR UPDATE")
        with pytest.raises(LockTimeout):
            await app.jobs.delete(job.id)
        with pytest.raises(LockTimeout):
            await app.jobs.run_now(waiting.id)
    assert await traces(connection, job.id) == before
    assert await app.operations() == []


async def test_who_waits_for_a_job_that_is_deleted_is_told(app: Rowlock) -> None:
    job = await app.enqueue("work", delay=HOUR)
    waiting = asyncio.create_task(job.result(timeout=30))
    await app.jobs.cancel(job.id)
    await app.jobs.delete(job.id)
    with pytest.raises((JobNotFound, JobFailed)):  # it may have looked in between
        await waiting
