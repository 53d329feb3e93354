"""What operators do to jobs: cancel, retry, discard, one or many; and what is kept of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from operator import attrgetter
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import (
    InvalidArguments,
    InvalidOption,
    Job,
    JobAlreadyFinished,
    JobFilter,
    JobNotFound,
    KeyHeld,
    Rowlock,
    Settings,
    WrongState,
)
from rowlock.queue.jobs.lifecycle import SHOWN
from rowlock.queue.operate import bulk
from rowlock.queue.operate.act_on_jobs import ActOnJobs
from rowlock.queue.read.reader import list_attempts

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NO_JOB = uuid4()


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    settings = replace(Settings(database_url=database_url), poll_interval=timedelta(milliseconds=50))
    async with Rowlock(settings=settings) as app:

        @app.task(max_attempts=1, queue="email")
        async def explode(text: str = "boom") -> str:
            if text == "fine":
                return text
            raise ValueError(text)

        @app.task
        async def echo(value: object = None) -> object:
            return value

        yield app


async def failed(app: Rowlock, text: str = "boom", **options: Any) -> UUID:  # noqa: ANN401  # of using()
    handle = await app.tasks["explode"].using(**options).enqueue(text)
    await app.worker().drain()
    assert (await handle.get()).state == "failed"
    return handle.id


async def table(connection: Connection, name: str) -> list[dict[str, Any]]:
    return [dict(row) for row in await connection.fetch(f"SELECT * FROM rowlock.{name} ORDER BY id")]


# Cancel.


async def test_a_waiting_job_is_cancelled_at_once_and_never_starts(app: Rowlock, connection: Connection) -> None:
    waiting = await app.enqueue("echo")
    later = await app.enqueue("echo", delay=3600, unique="k")
    assert await app.jobs.cancel(waiting.id, reason="not needed", by="ada") == "cancelled"
    assert await app.jobs.cancel(str(later.id)) == "cancelled"
    assert await app.worker().drain() == 0
    job = await waiting.get()
    assert (job.state, job.error, job.attempt, job.is_cancelled) == ("cancelled", "Cancelled: not needed", 0, True)
    assert (await later.get()).error == "Cancelled: on request"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.unique_key") == 0, "the key is free again"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


async def test_a_cancel_is_recorded_with_who_and_from_where(app: Rowlock) -> None:
    job = await app.enqueue("echo")
    await app.jobs.cancel(job.id, reason="not needed", by="ada")
    (told,) = await app.operations()
    assert (told.verb, told.target_kind, told.target, told.by, told.source) == (
        "cancel",
        "job",
        str(job.id),
        "ada",
        "python",
    )
    assert told.details == {"answer": "cancelled", "reason": "not needed"}


async def test_a_cancel_that_comes_too_late_or_for_no_job_says_so_and_records_nothing(app: Rowlock) -> None:
    job = await app.enqueue("echo")
    await app.worker().drain()
    with pytest.raises(JobAlreadyFinished, match="has succeeded already") as refused:
        await app.jobs.cancel(job.id)
    assert refused.value.state == "succeeded"
    for unknown in (NO_JOB, "no id"):
        with pytest.raises(JobNotFound):
            await app.jobs.cancel(unknown)
    assert await app.operations() == []


@pytest.mark.parametrize("reason", ["", "x" * 1001, "a\0b", 7])
async def test_a_reason_that_cannot_be_kept_is_refused(reason: Any, app: Rowlock) -> None:  # noqa: ANN401
    job = await app.enqueue("echo")
    with pytest.raises(InvalidOption, match="reason"):
        await app.jobs.cancel(job.id, reason=reason)
    assert (await job.get()).state == "queued"


@pytest.mark.parametrize("by", ["", "x" * 201, "a\nb", 7])
async def test_a_name_that_is_none_is_refused(by: Any, app: Rowlock) -> None:  # noqa: ANN401
    job = await app.enqueue("echo")
    with pytest.raises(InvalidOption, match="by "):
        await app.jobs.cancel(job.id, by=by)
    assert (await job.get()).state == "queued"


# Retry.


async def test_a_failed_job_goes_back_as_the_same_job_and_its_attempts_go_on_counting(
    app: Rowlock, connection: Connection
) -> None:
    job = await failed(app)
    back = await app.jobs.retry(job, args={"text": "fine"}, by="ada")
    assert (back.id, back.state, back.attempt, back.errors, back.crashes) == (job, "queued", 1, 0, 0)
    assert back.args == {"text": "fine"}
    assert await app.worker().drain() == 1
    done = await app.get(job)
    assert (done.state, done.attempt, done.result) == ("succeeded", 2, "fine")
    assert [row["attempt"] for row in await list_attempts(app.database, job)] == [1], "its history stays"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.finished_job WHERE id = $1", job) == 1
    (told,) = await app.operations(target=str(job))
    assert (told.verb, told.by, told.details) == ("retry", "ada", {"args": "given", "state": "failed"})


async def test_a_cancelled_job_can_be_put_back_and_runs(app: Rowlock) -> None:
    job = await app.enqueue("echo", {"value": 1})
    await app.jobs.cancel(job.id)
    assert (await app.jobs.retry(job.id)).state == "queued"
    await app.worker().drain()
    assert (await job.get()).result == 1


async def test_a_job_that_succeeded_or_is_alive_cannot_be_retried(app: Rowlock) -> None:
    job = await app.enqueue("echo")
    with pytest.raises(WrongState, match="is queued, and not finished"):
        await app.jobs.retry(job.id)
    await app.worker().drain()
    with pytest.raises(WrongState, match="it succeeded: enqueue a new one") as refused:
        await app.jobs.retry(job.id)
    assert refused.value.state == "succeeded"
    with pytest.raises(JobNotFound):
        await app.jobs.retry(NO_JOB)
    assert await app.operations() == []


@pytest.mark.parametrize("text", ["boom", "fine"])
async def test_a_finished_job_is_run_again_as_a_new_one(text: str, app: Rowlock) -> None:
    options: dict[str, Any] = {"priority": 8, "queue": "urgent", "timeout": 9, "max_attempts": 1, "unique": "once"}
    old = await app.tasks["explode"].using(**options).enqueue(text)
    await app.worker(queues=["urgent"]).drain()
    before = await old.get()
    new = await app.jobs.run_again(old.id, by="ada")
    same = ("task", "args", "args_version", "queue", "priority", "timeout", "max_attempts")
    assert [getattr(new, name) for name in same] == [getattr(before, name) for name in same]
    assert (new.state, new.attempt, new.unique_key) == ("queued", 0, None)
    assert new.id != old.id
    assert (await old.get()).state == before.state
    (operation,) = await app.operations()
    assert (operation.verb, operation.target, operation.by) == ("run_again", str(old.id), "ada")
    assert operation.details == {"job": str(new.id)}
    await app.worker(queues=["urgent"]).drain()
    assert (await app.get(new.id)).state == before.state


async def test_a_job_is_run_again_with_other_arguments_that_fit_its_task(app: Rowlock) -> None:
    old = await failed(app)
    with pytest.raises(InvalidArguments, match="text"):
        await app.jobs.run_again(old, args={"text": 7})
    assert await app.operations() == []
    new = await app.jobs.run_again(old, args={"text": "fine"})
    await app.worker().drain()
    assert (await app.get(new.id)).state == "succeeded"
    assert (await app.operations())[0].details == {"job": str(new.id), "args": "given"}


async def test_a_live_job_is_not_run_again(app: Rowlock) -> None:
    job = await app.enqueue("echo")
    with pytest.raises(WrongState, match="is queued: only a finished job"):
        await app.jobs.run_again(job.id)
    with pytest.raises(JobNotFound):
        await app.jobs.run_again(NO_JOB)
    assert await app.operations() == []
    assert len(await app.jobs.list()) == 1


async def test_other_arguments_are_checked_before_anything_changes(app: Rowlock) -> None:
    job = await failed(app)
    with pytest.raises(InvalidArguments, match="text"):
        await app.jobs.retry(job, args={"text": 7})
    assert (await app.get(job)).state == "failed"


async def test_a_retried_job_takes_its_unique_key_again_or_is_refused(app: Rowlock, connection: Connection) -> None:
    job = await failed(app, unique="welcome")
    other = await app.tasks["explode"].using(unique="welcome", delay=60).enqueue("boom")
    with pytest.raises(KeyHeld, match=str(other.id)):
        await app.jobs.retry(job)
    assert (await app.get(job)).state == "failed"
    await app.jobs.cancel(other.id)
    await app.jobs.retry(job)
    assert await connection.fetchval("SELECT job_id FROM rowlock.unique_key") == job
    assert (await app.tasks["explode"].using(unique="welcome").enqueue("boom")).is_duplicate


async def test_of_two_retries_at_once_one_puts_the_job_back(app: Rowlock, connection: Connection) -> None:
    job = await failed(app)
    done = await asyncio.gather(*(app.jobs.retry(job) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(one, Job) for one in done) == 1
    assert sum(isinstance(one, WrongState) for one in done) == 7
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs") == 1
    assert len(await app.operations()) == 1


@pytest.mark.needs_session("it waits for a notification")
async def test_a_retried_job_wakes_a_worker_that_sleeps(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    job = await failed(app)
    for name, value in {"PAUSE_FIRST": 60, "PAUSE_BUSY_MOST": 60, "QUIET_SECONDS": 0.001}.items():
        monkeypatch.setattr(f"rowlock.worker.loop.doze.{name}", value)
    app.database.settings = replace(app.settings, poll_interval=timedelta(seconds=60))
    async with app.worker():
        await asyncio.wait_for(_until_idle(app), 10)
        await app.jobs.retry(job, args={"text": "fine"})
        assert await app.handle(await app.get(job)).result(timeout=10) == "fine"


async def _until_idle(app: Rowlock) -> None:
    while True:
        async with app.database.connection() as connection:
            if await connection.fetchval("SELECT count(*) FROM rowlock.idle_worker"):
                return


# Dead letters.


async def test_dead_letters_are_the_failed_jobs_that_nobody_discarded(app: Rowlock) -> None:
    jobs = [await failed(app, text) for text in ("one", "two", "three")]
    await (await app.enqueue("echo")).get()
    assert [job.id for job in await app.dead_letters.list()] == jobs[::-1]
    put_aside = await app.jobs.discard(jobs[1], by="ada")
    assert (put_aside.state, put_aside.discarded_at is not None) == ("failed", True)
    assert [job.id for job in await app.dead_letters.list()] == [jobs[2], jobs[0]]
    assert [job.id for job in await app.dead_letters.list(limit=1, before=jobs[2])] == [jobs[0]]
    assert [job.id for job in await app.dead_letters.list(JobFilter(error="thr"))] == [jobs[2]]
    assert [job.id for job in await app.dead_letters.list(JobFilter(discarded=True))] == [jobs[1]]
    assert (await app.get(jobs[1])).state == "failed", "the audit of failures does not change"
    await app.jobs.retry(jobs[1], args={"text": "fine"})
    assert (await app.get(jobs[1])).discarded_at is None


async def test_dead_letters_are_grouped_by_task_and_first_line_of_the_error(app: Rowlock) -> None:
    for text in ("no route\nhost a", "no route\nhost b", "refused"):
        await failed(app, text)
    groups = await app.dead_letters.groups()
    assert [(group.task, group.error, group.jobs) for group in groups] == [
        ("explode", "ValueError: no route", 2),
        ("explode", "ValueError: refused", 1),
    ]
    assert groups[0].first_at < groups[0].last_at
    assert await app.dead_letters.groups(JobFilter(queue="other")) == []


KINDS: dict[str | None, str] = {
    None: "",
    "": "",
    "\nbelow": "",
    "boom": "boom",
    "boom now": "boom now",
    "é\nsecond": "é",
    "é": "é",
    "%_": "%_",
    "x" * 300: "x" * 200,
    "x" * 200 + "y": "x" * 200,
    "no order 7": "no order #",
    "no order 12345": "no order #",
    "no order -7.5": "no order -#.#",
    "no order 01a20852-e2a4-71df-a8b6-371b0b7c98f5": "no order #",
    "no order 0123456789ABCDEFabcd": "no order #",
    "no order 0xdead": "no order #",
    "no order dead beef": "no order dead beef",
    "no order abc123": "no order abc#",
}
"""Errors, and of which kind they are."""


async def failed_with_each(connection: Connection) -> dict[UUID, str]:
    """Dead letters, as the worker leaves them, and the kinds of their errors."""
    rows = await connection.fetch(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, error) "
        "SELECT rowlock.uuid7(), 'explode', 'failed', 1, 0, now(), now(), now(), 1, 1, 5, 'default', '{}', error "
        "FROM unnest($1::text[]) AS given (error) RETURNING id, error",
        list(KINDS),
    )
    return {row["id"]: KINDS[row["error"]] for row in rows}


async def test_dead_letters_are_grouped_by_the_kind_of_their_errors(app: Rowlock, connection: Connection) -> None:
    kinds = await failed_with_each(connection)
    assert {group.error: group.jobs for group in await app.dead_letters.groups()} == Counter(kinds.values())


@pytest.mark.parametrize("given", [*filter(None, KINDS), "", "no order #"])
async def test_the_kind_of_an_error_means_its_group_and_no_others(
    app: Rowlock, connection: Connection, given: str
) -> None:
    kinds = await failed_with_each(connection)
    own = {job for job, kind in kinds.items() if kind == KINDS.get(given, given)}
    meant = JobFilter(task="explode", error_kind=given)
    assert {job.id for job in await app.dead_letters.list(meant)} == own
    assert [group.jobs for group in await app.dead_letters.groups(meant)] == [len(own)]
    assert (await app.jobs.discard_many(meant, dry_run=True)).count == len(own)
    assert (await app.jobs.retry_many(meant)).count == len(own)
    assert {job.id for job in await app.jobs.list(JobFilter(state="queued"))} == own


async def test_only_failed_jobs_are_discarded_and_once(app: Rowlock) -> None:
    job = await app.enqueue("echo")
    with pytest.raises(WrongState, match="only failed jobs"):
        await app.jobs.discard(job.id)
    with pytest.raises(JobNotFound):
        await app.jobs.discard(NO_JOB)
    dead = await failed(app)
    first, second = await app.jobs.discard(dead), await app.jobs.discard(dead)
    assert first.discarded_at == second.discarded_at
    assert len(await app.operations(verb="discard")) == 1


# Many.


async def test_a_filter_means_for_acts_what_it_means_for_lists(app: Rowlock, connection: Connection) -> None:
    """Each filter, over jobs in every live state: what a dry run would cancel is what the list shows."""
    for n in range(8):
        await app.enqueue("echo", {"value": {"n": n % 2, "of": "all"}}, queue="ab"[n % 2], delay=n % 4 * 60)
    await app.tasks["explode"].enqueue()
    await connection.execute(
        "UPDATE rowlock.job SET errors = 1, error = 'it broke' WHERE args @> '{\"value\": {\"n\": 1}}'"
    )
    ids = [job.id for job in await app.jobs.list()]
    assert len(ids) == 9
    for which in (
        *(JobFilter(state=state) for state in SHOWN if state not in {"succeeded", "failed", "cancelled", "expired"}),
        JobFilter(queue="a"),
        JobFilter(task="explode"),
        JobFilter(after=ids[4]),
        JobFilter(before=ids[4]),
        JobFilter(after=ids[6], before=ids[2]),
        JobFilter(older_than=60),
        JobFilter(newer_than=timedelta(minutes=1)),
        JobFilter(error="broke"),
        JobFilter(args={"value": {"n": 1}}),
        JobFilter(queue="b", state="retrying", args={"value": {"of": "all"}}),
    ):
        listed = [job.id for job in await app.jobs.list(which)]
        would = await app.jobs.cancel_many(which, dry_run=True)
        assert would.is_dry_run
        assert (would.count, would.first_ids) == (len(listed), listed[::-1]), which
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 9, "a dry run changes nothing"
    assert await app.operations() == []


async def test_many_are_cancelled_in_batches_as_one_operation(app: Rowlock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)
    for n in range(8):
        await app.enqueue("echo", {"value": n})
    other = await app.tasks["explode"].enqueue()
    done = await app.jobs.cancel_many(JobFilter(task="echo"), reason="enough", by="ada")
    assert (done.count, len(done.first_ids), done.requested, done.is_dry_run) == (8, 8, 0, False)
    assert {job.error for job in await app.jobs.list(JobFilter(state="cancelled"))} == {"Cancelled: enough"}
    assert (await other.get()).state == "queued"
    (told,) = await app.operations()
    assert (told.verb, told.target, told.by) == ("cancel", None, "ada")
    assert told.details == {"filter": {"task": "echo"}, "reason": "enough", "cancelled": 8}


async def test_what_a_bulk_act_did_before_it_broke_off_is_recorded(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "BATCH", 3)
    for n in range(8):
        await app.enqueue("echo", {"value": n})
    batches = 0
    record = ActOnJobs.record

    async def break_off(self: ActOnJobs, *args: Any, **more: Any) -> None:  # noqa: ANN401
        nonlocal batches
        batches += 1
        if batches == 3:
            raise ConnectionResetError("the server went away")
        await record(self, *args, **more)

    monkeypatch.setattr(ActOnJobs, "record", break_off)
    with pytest.raises(ConnectionResetError):
        await app.jobs.cancel_many(JobFilter(task="echo"))
    assert len(await app.jobs.list(JobFilter(state="cancelled"))) == 6, "a batch is done as a whole, or not at all"
    assert [told.details["cancelled"] for told in await app.operations()] == [6]


async def test_many_dead_letters_are_retried_and_those_whose_key_is_held_are_left(app: Rowlock) -> None:
    free = [await failed(app) for _ in range(3)]
    held = await failed(app, unique="k")
    await app.tasks["explode"].using(unique="k", delay=60).enqueue("boom")
    put_aside = await failed(app)
    await app.jobs.discard(put_aside)
    assert (await app.jobs.retry_many(JobFilter(error="boom"), dry_run=True)).count == 4
    done = await app.jobs.retry_many(JobFilter(error="boom"), by="ada")
    assert (done.count, done.skipped) == (3, 1)
    assert {(await app.get(job)).state for job in free} == {"queued"}
    assert [job.id for job in await app.dead_letters.list()] == [held]
    assert (await app.get(put_aside)).state == "failed"
    told = (await app.operations(verb="retry"))[0]
    which = {"error": "boom", "state": "failed", "discarded": False}
    assert told.details == {"filter": which, "retried": 3, "skipped": 1}


async def test_many_cancelled_jobs_are_retried_by_their_state(app: Rowlock) -> None:
    await failed(app)
    jobs = [await app.enqueue("echo") for _ in range(2)]
    await app.jobs.cancel_many(JobFilter(task="echo"))
    done = await app.jobs.retry_many(JobFilter(state="cancelled"))
    assert (done.count, done.first_ids) == (2, [job.id for job in jobs])
    assert len(await app.dead_letters.list()) == 1


async def test_many_dead_letters_are_discarded(app: Rowlock) -> None:
    jobs = [await failed(app) for _ in range(3)]
    assert (await app.jobs.discard_many(JobFilter(before=jobs[2]))).count == 2
    assert [job.id for job in await app.dead_letters.list()] == [jobs[2]]
    assert (await app.jobs.discard_many(JobFilter(before=jobs[2]))).count == 0
    assert len(await app.operations(verb="discard")) == 1, "nothing was done the second time"


@pytest.mark.parametrize("verb", ["cancel_many", "retry_many", "discard_many"])
async def test_a_filter_that_means_every_job_is_refused_unless_that_is_meant(verb: str, app: Rowlock) -> None:
    await failed(app)
    await app.enqueue("echo")
    act: Callable[..., Any] = getattr(app.jobs, verb)
    with pytest.raises(InvalidOption, match="Narrow it"):
        await act(JobFilter(), dry_run=True)
    assert (await act(JobFilter(), everything=True)).count == 1


@pytest.mark.parametrize(
    "verb, which",
    [
        ("jobs.cancel_many", JobFilter(state="failed")),
        ("jobs.cancel_many", JobFilter(discarded=True)),
        ("jobs.retry_many", JobFilter(state="succeeded")),
        ("jobs.retry_many", JobFilter(state="queued")),
        ("jobs.discard_many", JobFilter(state="cancelled")),
        ("dead_letters.list", JobFilter(state="cancelled")),
        ("dead_letters.groups", JobFilter(state="queued")),
    ],
)
async def test_states_that_an_act_knows_nothing_of_are_refused(verb: str, which: JobFilter, app: Rowlock) -> None:
    with pytest.raises(InvalidOption, match="state"):
        await attrgetter(verb)(app)(which)


async def test_operations_are_listed_newest_first_page_by_page(app: Rowlock) -> None:
    jobs = [await app.enqueue("echo") for _ in range(3)]
    for job in jobs:
        await app.jobs.cancel(job.id, by="ada")
        await asyncio.sleep(0.002)  # ids sort by the millisecond
    found = await app.operations(limit=2)
    assert [told.target for told in found] == [str(jobs[2].id), str(jobs[1].id)]
    rest = await app.operations(limit=2, before=found[-1].id)
    assert [told.target for told in rest] == [str(jobs[0].id)]
    assert await app.operations(verb="retry") == []
    assert await app.operations(target_kind="queue") == []
    with pytest.raises(InvalidOption, match="limit"):
        await app.operations(limit=501)
    with pytest.raises(InvalidOption, match="target"):
        await app.operations(target="\0")
