"""The kit for the tests of applications: it does what a worker does, sees what is enqueued, and moves time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from rowlock import (
    CallNext,
    Cancel,
    ConfigurationError,
    Fail,
    InvalidArguments,
    InvalidOption,
    InvalidResult,
    Job,
    JobNotFound,
    Retry,
    Rowlock,
    Schedule,
    Settings,
    Snooze,
    Unique,
    UnknownTask,
    WrongState,
)
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import AttemptTimeout
from rowlock.testing import (
    assert_enqueued,
    assert_enqueued_sync,
    assert_not_enqueued,
    assert_not_enqueued_sync,
    drain,
    enqueued,
    enqueued_sync,
    fire_schedules,
    move_time,
    perform,
    perform_job,
    use_database,
)
from rowlock.testing.bench import OWN, PACKAGE
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

app = Rowlock("postgresql://localhost:1/nowhere")
"""As an application has it: made once, at import, for another database."""

seen: list[Any] = []


@app.task(queue="email", max_attempts=3, backoff=60)
async def send(to: str, subject: str = "Hi", *, wrong: bool = False) -> str:
    seen.append(to)
    if wrong:
        raise LookupError(to)
    return f"sent to {to}"


@app.task
async def follow(job: Job, to: str) -> int:
    await send.enqueue(to)
    return job.attempt


@app.task
async def decide(how: str) -> None:
    raise {"snooze": Snooze(60), "cancel": Cancel(), "retry": Retry(60), "fail": Fail("no")}[how]


@app.task
async def again() -> None:
    await again.enqueue()


@app.task(timeout=0.01)
async def slow() -> None:
    await asyncio.sleep(60)


@app.task
def plain(number: int) -> int:
    return number + 1


@app.task
async def unfit() -> object:
    return object()


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


# assert_enqueued


async def test_what_is_enqueued_has_its_tags_and_metadata() -> None:
    await send.using(tags=["vip"], metadata={"customer": "42"}).enqueue("ada")
    await send.enqueue("bob")
    assert [(job.tags, job.metadata) for job in await enqueued(app)] == [(["vip"], {"customer": "42"}), ([], {})]


async def test_what_waits_is_found_by_all_that_is_given() -> None:
    await send.enqueue("ada")
    await send.using(queue="later", priority=9, delay=HOUR).enqueue("bob", subject="Later")
    await plain.enqueue(1)
    assert len(await assert_enqueued(app)) == 3
    assert len(await assert_enqueued(app, send)) == 2
    (job,) = await assert_enqueued(app, "send", args={"to": "bob"}, queue="later", priority=9, delay=3600, count=1)
    assert job.args == {"to": "bob", "subject": "Later"}
    others: list[dict[str, Any]] = [
        {"queue": "email"},
        {"priority": 5},
        {"delay": 60},
        {"args": {"to": "bob", "wrong": True}},
    ]
    for other in others:
        await assert_not_enqueued(app, send, **({"args": {"to": "bob"}} | other))
    await assert_not_enqueued(app, slow)


async def test_arguments_left_to_their_defaults_count() -> None:
    await send.enqueue("ada")
    await assert_enqueued(app, send, args={"subject": "Hi", "wrong": False})
    await assert_not_enqueued(app, send, args={"subject": "Hello"})


async def test_expected_arguments_are_written_like_those_of_a_call() -> None:
    @app.task
    async def remind(at: datetime, whom: UUID) -> None: ...

    try:
        at, whom = datetime(2026, 1, 1, tzinfo=UTC), uuid7()
        await remind.enqueue(at, whom)
        await assert_enqueued(app, remind, args={"at": at, "whom": whom})
    finally:
        del app.tasks["remind"]


async def test_what_runs_or_has_run_is_not_enqueued_any_more() -> None:
    await send.enqueue("ada")
    await drain(app)
    with pytest.raises(AssertionError) as caught:
        await assert_enqueued(app, send, args={"to": "ada"})
    assert str(caught.value) == (
        'A job of send with args {"to": "ada"} should be enqueued, found 0.\n'
        "Nothing is enqueued.\n"
        "Jobs that wait no longer:\n"
        '  send {"to": "ada"} queue=email priority=5 succeeded'
    )


async def test_failure_shows_what_is_enqueued_instead() -> None:
    await send.enqueue("ada")
    await send.using(delay=HOUR).enqueue("bob" * 100)
    with pytest.raises(AssertionError) as caught:
        await assert_enqueued(app, send, args={"to": "eve"}, queue="email", delay=60)
    assert str(caught.value) == (
        'A job of send with args {"to": "eve"}, queue email, delay 0:01:00 should be enqueued, found 0.\n'
        "Enqueued jobs (* matches):\n"
        '  send {"to": "ada"} queue=email priority=5 queued\n'
        f'  send {{"to": "{("bob" * 100)[:192]}… queue=email priority=5 scheduled in 1:00:00'
    )


async def test_failure_of_a_count_marks_what_fits() -> None:
    await send.enqueue("ada")
    await plain.enqueue(1)
    with pytest.raises(AssertionError) as caught:
        await assert_enqueued(app, send, count=2)
    assert str(caught.value) == (
        "2 jobs of send should be enqueued, found 1.\n"
        "Enqueued jobs (* matches):\n"
        '* send {"to": "ada"} queue=email priority=5 queued\n'
        '  plain {"number": 1} queue=default priority=5 queued'
    )
    await assert_enqueued(app, send, args={"to": "bob"}, count=0)


async def test_failure_of_the_opposite_shows_what_is_there() -> None:
    await send.enqueue("ada")
    with pytest.raises(AssertionError) as caught:
        await assert_not_enqueued(app, send)
    assert str(caught.value) == (
        "No job of send should be enqueued, found 1.\n"
        "Enqueued jobs (* matches):\n"
        '* send {"to": "ada"} queue=email priority=5 queued'
    )


async def test_failure_on_an_empty_database_thinks_of_open_transactions(connection: Connection) -> None:
    async with connection.transaction():
        await send.using(connection=connection).enqueue("ada")
        with pytest.raises(AssertionError, match=r"Nothing is enqueued\. .*pass it as connection="):
            await assert_enqueued(app, send)
        await assert_enqueued(app, send, connection=connection)


async def test_failure_shows_only_so_many() -> None:
    await app.enqueue_many(send.job(f"user{number}") for number in range(25))
    with pytest.raises(AssertionError, match="… and 5 more"):
        await assert_enqueued(app, plain)


async def test_open_transaction_of_a_session_is_looked_into(database_url: str) -> None:
    engine = create_async_engine(database_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AsyncSession(engine) as session:
        await send.using(connection=session).enqueue("ada")
        (job,) = await assert_enqueued(app, "send", args={"to": "ada"}, connection=session)
        assert job.created_at.tzinfo is not None
        await assert_not_enqueued(app)
        await session.rollback()
    await engine.dispose()
    await assert_not_enqueued(app)


def test_synchronous_test_enqueues_expects_and_drains() -> None:
    send.enqueue_sync("ada")
    assert [job.args for job in enqueued_sync(app, send)] == [{"to": "ada"}]
    assert len(assert_enqueued_sync(app, "send", args={"to": "ada"}, count=1)) == 1
    with pytest.raises(AssertionError, match="found 1"):
        assert_not_enqueued_sync(app, send)
    assert app.run_sync(perform(app, send, "bob")) == "sent to bob"
    assert len(app.run_sync(drain(app))) == 1


def test_open_transactions_of_synchronous_drivers_are_looked_into(database_url: str) -> None:
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    with psycopg.connect(database_url) as connection, Session(engine) as session:
        for mine in (connection, session):
            send.using(connection=mine, delay=HOUR).enqueue_sync("ada")
            (job,) = assert_enqueued_sync(app, "send", args={"to": "ada"}, delay=HOUR, connection=mine)
            assert (job.state, job.run_at.tzinfo is None) == ("scheduled", False)
            with pytest.raises(AssertionError, match="Enqueued jobs"):
                assert_not_enqueued_sync(app, send, connection=mine)
            assert_not_enqueued_sync(app)
            mine.rollback()
            assert enqueued_sync(app, connection=mine) == []
    engine.dispose()


async def test_expectations_that_nothing_can_fit_are_refused(connection: Connection) -> None:
    refusals: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (UnknownTask, r"must be one of this application \(again, .*; got 'sned'\. Is 'send' meant\?", {"task": "sned"}),
        (InvalidOption, "Task 'send' has no argument 'recipient': it has to, ", {"args": {"recipient": "ada"}}),
        (InvalidOption, "queue 'a queue'", {"queue": "a queue"}),
        (InvalidOption, "priority 10", {"priority": 10}),
        (InvalidOption, "delay -1 is negative", {"delay": -1}),
        (InvalidOption, "args must be writable as JSON", {"args": {"to": object()}}),
        (InvalidOption, "A connection of type str is not known", {"connection": "postgresql://"}),
    ]
    for kind, why, given in refusals:
        with pytest.raises(kind, match=why):
            await assert_not_enqueued(app, **({"task": send} | given))
    with pytest.raises(InvalidOption, match="count must be at least 0; got -1"):
        await assert_enqueued(app, send, count=-1)
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('registered', 'default', 5, 1)"
    )
    await assert_not_enqueued(app, "registered")


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
