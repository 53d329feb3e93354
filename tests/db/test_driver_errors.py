"""What an error on the way of an enqueue says: what is wrong, and nothing of the arguments, whatever the driver."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

import asyncpg
import psycopg2
import pytest
from django.db import Error as DjangoError
from psycopg import Error as PsycopgError
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from rowlock import ConfigurationError, InvalidOption, Job, Rowlock, SchemaNotMigrated, Settings, Task
from rowlock.queue.connect.server_errors import RIGHTS_OF_ENQUEUERS, WRITTEN_BY_ENQUEUERS, NotAllowed
from rowlock.queue.read.reader import list_attempts
from tests.conftest import Server
from tests.db.callers import KINDS, Opened, engine_for

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_IDLE = r"lacks SELECT, INSERT, UPDATE, DELETE on the (table|view) rowlock\.idle_worker"
SECRET = "the-secret-of-ada"
OF_DRIVERS = (asyncpg.PostgresError, PsycopgError, psycopg2.Error, DBAPIError, DjangoError)

pytestmark = pytest.mark.needs_session("the databases are reached directly")


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
def greet(app: Rowlock) -> Task[[str], str]:
    @app.task
    async def greet(name: str) -> str:
        return name

    return greet


@pytest.fixture
async def shop(database: str, connection: Connection) -> AsyncIterator[str]:
    """A role that sees everything and may change nothing."""
    name = f"shop_{database}"
    await connection.execute(
        f"CREATE ROLE {name} LOGIN; GRANT USAGE ON SCHEMA rowlock TO {name};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA rowlock TO {name}"
    )
    yield name
    await connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def enqueue(app: Rowlock, task: Task[[str], str], opened: Opened, **options: Any) -> None:  # noqa: ANN401  # those of `using`
    bound = task.using(connection=opened.given, **options)
    if opened.is_synchronous:
        bound.enqueue_sync(SECRET)
    else:
        await bound.enqueue(SECRET)


async def enqueue_many(app: Rowlock, task: Task[[str], str], opened: Opened, **options: Any) -> None:  # noqa: ANN401  # likewise
    jobs = [task.using(**options).job(SECRET)]
    if opened.is_synchronous:
        app.enqueue_many_sync(jobs, connection=opened.given)
    else:
        await app.enqueue_many(jobs, connection=opened.given)


WAYS: list[tuple[Callable[..., Awaitable[None]], dict[str, Any]]] = [
    (enqueue, {}),
    (enqueue, {"delay": 60}),
    (enqueue, {"unique": "key"}),
    (enqueue_many, {}),
    (enqueue_many, {"unique": "key"}),
]


def shown(error: BaseException) -> str:
    """All that a log has of an error, with the errors that it was made of."""
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("kind", KINDS)
async def test_a_refused_enqueue_does_not_show_the_arguments(
    kind: str, app: Rowlock, greet: Task[[str], str], direct_url: str, connection: Connection
) -> None:
    await connection.execute(f"ALTER TABLE rowlock.job ADD CHECK (args ->> 'name' <> '{SECRET}')")
    async with KINDS[kind](direct_url) as opened:
        for way, options in WAYS:
            with pytest.raises(OF_DRIVERS, match="violates check constraint") as refused:
                await way(app, greet, opened, **options)
            assert SECRET not in shown(refused.value)
            with pytest.raises(InvalidOption, match=r"[Rr]oll it back") as failed:
                await way(app, greet, opened, **options)
            assert SECRET not in shown(failed.value)
            await opened.rollback()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_missing_right_is_named_and_the_arguments_are_not_shown(
    kind: str, app: Rowlock, greet: Task[[str], str], direct_url: str, shop: str
) -> None:
    async with KINDS[kind](direct_url.replace("postgres@", f"{shop}@", 1)) as opened:
        for way, options in WAYS:
            with pytest.raises(
                NotAllowed, match=r"given connection lacks a right on the table rowlock.*GRANT.*docs/security"
            ) as denied:
                await way(app, greet, opened, **options)
            assert SECRET not in shown(denied.value)
            await opened.rollback()


@pytest.mark.parametrize("kind", KINDS)
async def test_missing_tables_are_named_and_the_arguments_are_not_shown(
    kind: str, app: Rowlock, greet: Task[[str], str], server: Server, empty_database: str
) -> None:
    async with KINDS[kind](server.url(empty_database)) as opened:
        for way, options in WAYS:
            with pytest.raises(SchemaNotMigrated, match="of the given connection has no Rowlock tables") as missing:
                await way(app, greet, opened, **options)
            assert SECRET not in shown(missing.value)
            await opened.rollback()


async def test_rowlocks_own_connections_do_not_show_the_arguments(
    app: Rowlock, greet: Task[[str], str], connection: Connection
) -> None:
    await connection.execute(f"ALTER TABLE rowlock.job ADD CHECK (args ->> 'name' <> '{SECRET}')")
    for enqueued in (
        lambda: greet.enqueue(SECRET),
        lambda: greet.using(unique="key").enqueue(SECRET),
        lambda: app.enqueue_many([greet.job(SECRET)]),
        lambda: app.enqueue_many([greet.job(SECRET)]),
    ):
        with pytest.raises(asyncpg.CheckViolationError) as refused:
            await enqueued()
        assert SECRET not in shown(refused.value)


async def test_a_result_that_the_database_refuses_is_not_shown(
    app: Rowlock, direct_url: str, connection: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await connection.execute(f"ALTER TABLE rowlock.finished_job ADD CHECK (result <> '\"{SECRET}\"')")
    engine = engine_for(direct_url)
    errors: list[BaseException] = []

    @app.task(max_attempts=1)
    async def pay(job: Job) -> None:
        try:
            async with AsyncSession(engine) as session, job.transaction(session):
                job.set_result(SECRET)
        except IntegrityError as error:
            errors.append(error)
            raise

    handle = await pay.enqueue()
    await app.worker().drain()
    await engine.dispose()
    assert len(errors) == 1
    (attempt,) = await list_attempts(app.database, handle.id)
    assert SECRET not in shown(errors[0]) + caplog.text + attempt["message"] + attempt["traceback"]


def test_what_enqueuers_are_told_that_they_need_is_what_the_page_grants() -> None:
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")
    tables = ", ".join(f"rowlock.{name}" for name in sorted(WRITTEN_BY_ENQUEUERS))
    assert f"GRANT {RIGHTS_OF_ENQUEUERS} ON {tables} TO enqueuer;" in page


async def test_the_role_the_right_and_the_table_are_named(
    server: Server, database: str, shop: str, connection: Connection
) -> None:
    async with Rowlock(server.url(database, shop)) as app:

        @app.task
        async def greet(name: str) -> None: ...

        for statement, words in (
            ("SELECT 1", r"role shop_\w+ lacks INSERT, UPDATE, DELETE on the table rowlock\.job .*GRANT.*security\.md"),
            (f"GRANT INSERT, UPDATE ON rowlock.job TO {shop}; REVOKE SELECT ON rowlock.idle_worker FROM {shop}", _IDLE),
            (f"REVOKE USAGE ON SCHEMA rowlock FROM {shop}", r"lacks USAGE on the schema rowlock\. "),
        ):
            await connection.execute(statement)
            with pytest.raises(ConfigurationError, match=words):
                await greet.enqueue(SECRET)
