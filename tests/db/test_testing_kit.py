"""The kit for tests of applications: jobs are performed and drained."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import pytest

from rowlock import (
    CallNext,
    Cancel,
    Fail,
    InvalidArguments,
    InvalidOption,
    InvalidResult,
    Job,
    JobNotFound,
    Retry,
    Rowlock,
    Settings,
    Snooze,
    UnknownTask,
    WrongState,
)
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import AttemptTimeout
from rowlock.testing import assert_enqueued, drain, enqueued, move_time, perform, perform_job, use_database
from tests.db.kit import DAY, HOUR, again, app, decide, follow, plain, seen, send, slow, unfit

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(autouse=True)
def _at_home(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    seen.clear()
    monkeypatch.setattr(app, "settings", settings)  # whether there is a pooler
    with use_database(app, database_url):
        yield


@pytest.fixture
def without_middleware() -> Iterator[None]:
    yield
    app.middlewares.clear()


# perform


async def test_performed_task_returns_its_result_after_the_way_through_json() -> None:
    assert await perform(app, send, "ada", subject="Hello") == "sent to ada"
    assert await perform(app, plain, 1) == 2
    assert await perform(app, follow, "bob") == 1


async def test_performed_task_takes_no_other_job_and_is_recorded(connection: Connection) -> None:
    before = await send.enqueue("before")
    await perform(app, send.using(delay=3600, priority=0), "ada")
    assert seen == ["ada"]
    assert (await before.get()).state == "queued"
    assert await connection.fetchval("SELECT state FROM rowlock.jobs WHERE args ->> 'to' = 'ada'") == "succeeded"


async def test_performed_task_raises_what_its_handler_raised_and_is_retried_later() -> None:
    with pytest.raises(LookupError, match="ada") as caught:
        await perform(app, send, "ada", wrong=True)
    assert caught.traceback[-1].name == "send", "the traceback leads to the handler"
    (job,) = await enqueued(app, send)
    assert (job.state, job.attempt, job.errors) == ("retrying", 1, 1)


async def test_performed_task_raises_its_directives() -> None:
    for how, kind in {"snooze": Snooze, "cancel": Cancel, "retry": Retry, "fail": Fail}.items():
        with pytest.raises(kind):
            await perform(app, decide, how)


async def test_performed_task_has_a_timeout_and_a_result_that_must_be_storable() -> None:
    with pytest.raises(AttemptTimeout):
        await perform(app, slow)
    with pytest.raises(InvalidResult):
        await perform(app, unfit)


@pytest.mark.usefixtures("without_middleware")
async def test_performed_task_runs_inside_of_the_middleware() -> None:
    @app.middleware
    async def around(job: Job, call_next: CallNext) -> object:
        seen.append(job.task)
        return f"<{await call_next()}>"

    assert await perform(app, send, "ada") == "<sent to ada>"
    assert seen == ["send", "ada"]


async def test_waiting_job_is_performed_before_it_is_due_and_a_finished_one_never() -> None:
    job = await send.using(delay=3600).enqueue("ada")
    assert await perform_job(app, job) == "sent to ada"
    with pytest.raises(WrongState, match=f"{job.id} .*must wait, .*; got succeeded"):
        await perform_job(app, str(job.id))
    with pytest.raises(JobNotFound):
        await perform_job(app, uuid7())


async def test_jobs_that_no_worker_would_take_are_not_performed(connection: Connection) -> None:
    newer = await send.enqueue("ada")
    await connection.execute("UPDATE rowlock.job SET args_version = 2")
    with pytest.raises(UnknownTask, match="has arguments of version 2 of the task 'send'"):
        await perform_job(app, newer)
    foreign = await connection.fetchval("SELECT rowlock.enqueue('foreign', '{}')")
    with pytest.raises(UnknownTask, match="must be of a task of this application; got 'foreign'"):
        await perform_job(app, foreign)
    assert len(await drain(app)) == 0


async def test_what_cannot_be_performed_is_refused_before_anything_is_stored(connection: Connection) -> None:
    other = Rowlock("postgresql://localhost:1/nowhere")

    @other.task(name="send")
    async def foreign(to: str) -> None: ...

    with pytest.raises(UnknownTask, match=r"must be one of this application .*; got 'send' of "):
        await perform(app, foreign, "ada")
    with pytest.raises(InvalidOption, match=r"got a connection. Omit it"):
        await perform(app, send.using(connection=connection), "ada")
    with pytest.raises(InvalidArguments):
        await perform(app, send, 1)  # type: ignore[arg-type]  # on purpose
    held = send.using(unique="ada", delay=60)
    first = await held.enqueue("ada")
    with pytest.raises(InvalidOption, match=f"No job was stored: job {first.id} holds the unique key"):
        await perform(app, held, "ada")
    assert await connection.fetchval("SELECT count(*) FROM rowlock.jobs") == 1


# drain


async def test_drain_follows_what_jobs_enqueue_one_after_the_other_by_priority() -> None:
    await follow.enqueue("later")
    await send.using(queue="elsewhere").enqueue("late")
    await send.using(priority=9).enqueue("first")
    done = await drain(app)
    assert sorted(seen) == ["first", "late", "later"]
    assert done.outcomes == {"succeeded": 4}
    assert done.failures == []
    assert [attempted.job.result for attempted in done.attempts if attempted.job.task == "follow"] == [1]
    assert len(await drain(app)) == 0


async def test_drain_takes_jobs_in_the_order_of_the_claims() -> None:
    for to, priority in (("b", 5), ("c", 5), ("d", 0), ("a", 9)):
        await send.using(priority=priority).enqueue(to)
    await drain(app)
    assert seen == ["a", "b", "c", "d"]


async def test_drain_raises_the_first_error_once_it_is_recorded_and_leaves_the_rest() -> None:
    job = await send.enqueue("ada", wrong=True)
    rest = await send.enqueue("bob")
    with pytest.raises(LookupError) as caught:
        await drain(app)
    assert caught.value.__notes__ == [
        f"Raised by attempt 1 of job {job.id}: task 'send', args {{'to': 'ada', 'wrong': True}}."
    ]
    assert (await job.get()).state == "retrying"
    assert (await rest.get()).state == "queued"


async def test_drain_reports_all_outcomes_if_it_is_to_go_on() -> None:
    await send.enqueue("ada", wrong=True)
    for how in ("snooze", "cancel", "retry", "fail"):
        await decide.enqueue(how)
    await slow.enqueue()
    done = await drain(app, raise_errors=False)
    assert done.outcomes == {"error": 1, "snoozed": 1, "cancelled": 1, "retried": 1, "failed": 1, "timeout": 1}
    assert {type(attempted.error) for attempted in done.failures} == {LookupError, Fail, AttemptTimeout}
    assert {attempted.job.state for attempted in done.failures} == {"retrying", "failed"}


async def test_drain_takes_decisions_for_no_errors() -> None:
    for how in ("snooze", "cancel", "retry"):
        await decide.enqueue(how)
    assert len(await drain(app)) == 3


async def test_drain_waits_for_no_retry_and_no_delay() -> None:
    await send.using(delay=60).enqueue("delayed")
    await send.enqueue("ada", wrong=True)
    await drain(app, raise_errors=False)
    assert [job.state for job in await enqueued(app)] == ["scheduled", "retrying"]


async def test_drain_with_scheduled_goes_through_delays_and_retries_to_the_end() -> None:
    await send.using(delay=7 * DAY).enqueue("delayed")
    failing = await send.enqueue("ada", wrong=True)
    done = await drain(app, with_scheduled=True, raise_errors=False)
    assert seen == ["ada", "ada", "ada", "delayed"]
    assert done.outcomes == {"error": 3, "succeeded": 1}
    assert (await failing.get()).state == "failed"


async def test_drain_of_some_queues_leaves_the_others() -> None:
    await send.enqueue("ada")
    await plain.enqueue(1)
    assert [attempted.job.task for attempted in (await drain(app, queues=["default"])).attempts] == ["plain"]
    await assert_enqueued(app, send, count=1)


async def test_drain_leaves_jobs_of_unknown_tasks(connection: Connection) -> None:
    await connection.execute("SELECT rowlock.enqueue('foreign', '{}')")
    assert len(await drain(app, with_scheduled=True)) == 0
    assert len(await enqueued(app)) == 1


async def test_drain_gives_up_on_a_job_that_enqueues_itself() -> None:
    await again.enqueue()
    with pytest.raises(AssertionError, match=r"drain\(\) stopped after 6 attempts.*raise limit="):
        await drain(app, limit=5)


async def test_drain_runs_several_at_once_if_asked() -> None:
    both = asyncio.Barrier(2)

    async def meet(job: Job, call_next: CallNext) -> object:
        await both.wait()
        return await call_next()

    app.middlewares.append(meet)
    try:
        await app.enqueue_many([send.job("a"), send.job("b")])
        async with asyncio.timeout(10):
            assert len(await drain(app, concurrency=2)) == 2
    finally:
        app.middlewares.clear()


async def test_drain_ends_what_has_expired() -> None:
    job = await send.using(expires=HOUR).enqueue("ada")
    await move_time(app, HOUR)
    assert len(await drain(app)) == 0
    assert (await job.get()).state == "expired"


async def test_drain_refuses_options_that_make_no_sense() -> None:
    refused: list[dict[str, Any]] = [{"limit": 0}, {"concurrency": 0}, {"queues": ["a queue"]}]
    for options in refused:
        with pytest.raises(InvalidOption, match=next(iter(options)).removesuffix("s")):
            await drain(app, **options)
