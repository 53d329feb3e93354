"""The kit for tests of applications: what is expected to be enqueued is there, or a failure shows what is."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from rowlock import InvalidOption, Settings, UnknownTask
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.testing import (
    assert_enqueued,
    assert_enqueued_sync,
    assert_not_enqueued,
    assert_not_enqueued_sync,
    drain,
    enqueued,
    enqueued_sync,
    perform,
    use_database,
)
from tests.db.kit import HOUR, app, plain, seen, send, slow

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture(autouse=True)
def _at_home(settings: Settings, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    seen.clear()
    monkeypatch.setattr(app, "settings", settings)  # whether there is a pooler
    with use_database(app, database_url):
        yield


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
        (InvalidOption, "queue must be .* got 'a queue'", {"queue": "a queue"}),
        (InvalidOption, "priority must be .* got 10", {"priority": 10}),
        (InvalidOption, "delay must be zero or more seconds; got -1", {"delay": -1}),
        (InvalidOption, "args must be writable as JSON", {"args": {"to": object()}}),
        (
            InvalidOption,
            "connection must be one of asyncpg.*; got a value of type str",
            {"connection": "postgresql://"},
        ),
    ]
    for kind, why, given in refusals:
        with pytest.raises(kind, match=why):
            await assert_not_enqueued(app, **({"task": send} | given))
    with pytest.raises(InvalidOption, match="count must be a whole number of at least 0; got -1"):
        await assert_enqueued(app, send, count=-1)
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts) VALUES ('registered', 'default', 5, 1)"
    )
    await assert_not_enqueued(app, "registered")
