"""What is special to one kind of caller's connection; what all have in common is in test_conformance.py."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import asyncpg
import psycopg
import psycopg2
import pytest
from psycopg.rows import dict_row
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from rowlock import InvalidArguments, InvalidOption, Rowlock, Settings, Task
from rowlock.queue.read.pages import list_jobs
from tests.db.callers import engine_for, synchronous_engine_for


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
def greet(app: Rowlock) -> Task[[str], str]:
    @app.task(queue="greetings")
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    return greet


async def names(app: Rowlock) -> list[str]:
    """The greetings that everybody can see, oldest first."""
    return [job.args["name"] for job in reversed(await list_jobs(app.database))]


async def test_enqueue_of_rowlocks_own_is_committed_at_once(app: Rowlock, greet: Task[[str], str]) -> None:
    first = await greet.using(unique="key").enqueue("first")
    second = await greet.using(unique="key").enqueue("second")
    handles = await app.enqueue_many([greet.job("third"), greet.using(unique="key").job("fourth")])
    with pytest.raises(InvalidArguments):
        await app.enqueue("greet", {})
    assert (second.id, second.is_duplicate) == (first.id, True)
    assert [handle.is_duplicate for handle in handles] == [False, True]
    assert await names(app) == ["first", "third"]


async def test_arguments_are_an_object_whatever_codec_the_caller_has_set(
    app: Rowlock, greet: Task[[str], str], connection: asyncpg.Connection
) -> None:
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    await greet.using(connection=connection).enqueue("one")
    await app.enqueue_many([greet.job("two")], connection=connection)
    rows = await connection.fetch("SELECT jsonb_typeof(args) AS type, args FROM rowlock.job ORDER BY id")
    assert [(row["type"], row["args"]) for row in rows] == [("object", {"name": "one"}), ("object", {"name": "two"})]


async def test_many_jobs_are_all_or_none_where_the_caller_has_no_transaction(
    app: Rowlock, greet: Task[[str], str], connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE rowlock.job ADD CHECK (args ->> 'name' <> 'trouble')")
    with pytest.raises(asyncpg.CheckViolationError):
        await app.enqueue_many([greet.using(unique="key").job("first"), greet.job("trouble")], connection=connection)
    assert await names(app) == []
    [handle] = await app.enqueue_many([greet.using(unique="key").job("second")], connection=connection)
    assert not handle.is_duplicate
    assert await names(app) == ["second"]


async def test_connection_that_its_pool_has_back_is_refused(greet: Task[[str], str], database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as released:
            pass
        with pytest.raises(InvalidOption, match="released back to the pool"):
            await greet.using(connection=released).enqueue("Ada")


class _Base(DeclarativeBase):
    pass


class Customer(_Base):
    __tablename__ = "customer"
    name: Mapped[str] = mapped_column(primary_key=True)


async def test_session_after_a_failed_flush_is_refused_until_it_is_rolled_back(
    app: Rowlock, greet: Task[[str], str], database_url: str, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE customer (name text PRIMARY KEY)")
    await connection.execute("INSERT INTO customer VALUES ('Ada')")
    engine = engine_for(database_url)
    async with AsyncSession(engine) as session:
        session.add(Customer(name="Ada"))
        with pytest.raises(IntegrityError):
            await session.flush()
        with pytest.raises(InvalidOption, match=r"[Rr]oll it back"):
            await greet.using(connection=session).enqueue("refused")
        await session.rollback()
        session.add(Customer(name="Bob"))
        await greet.using(connection=session).enqueue("Bob")
        await session.commit()
    await engine.dispose()
    assert await names(app) == ["Bob"]
    assert await connection.fetchval("SELECT count(*) FROM customer") == 2


async def test_sqlalchemys_server_side_cursors_do_not_matter(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    engine = engine_for(database_url)
    async with engine.execution_options(stream_results=True, yield_per=5).begin() as connection:
        await greet.using(connection=connection).enqueue("Ada")
    await engine.dispose()
    assert await names(app) == ["Ada"]


async def test_sqlalchemy_connection_that_is_not_open_is_refused(greet: Task[[str], str], database_url: str) -> None:
    engine = engine_for(database_url)
    async with engine.connect() as connection:
        pass
    with pytest.raises(InvalidOption, match="closed"):
        await greet.using(connection=connection).enqueue("Ada")
    with pytest.raises(InvalidOption, match="not been started"):
        await greet.using(connection=engine.connect()).enqueue("Ada")
    await engine.dispose()


@pytest.mark.parametrize("is_of_engine", [True, False], ids=["engine", "connection"])
async def test_sqlalchemy_connection_in_autocommit_is_refused(
    app: Rowlock, greet: Task[[str], str], database_url: str, is_of_engine: bool
) -> None:
    how = {"isolation_level": "AUTOCOMMIT"}
    engine = engine_for(database_url)
    automatic = engine.execution_options(**how)
    async with automatic.connect() if is_of_engine else engine.connect() as connection:
        if not is_of_engine:
            await connection.execution_options(**how)
        with pytest.raises(InvalidOption, match="omit connection"):
            await greet.using(connection=connection).enqueue("Ada")
        with pytest.raises(InvalidOption, match="AUTOCOMMIT"):
            await app.enqueue_many([greet.job("Ada"), greet.using(unique="k").job("Bob")], connection=connection)
    async with AsyncSession(automatic) as session:
        with pytest.raises(InvalidOption, match="AUTOCOMMIT"):
            await greet.using(connection=session).enqueue("Ada")
    await engine.dispose()
    assert await names(app) == []


async def test_session_that_can_begin_no_transaction_is_refused(greet: Task[[str], str], database_url: str) -> None:
    engine = engine_for(database_url)
    closed = AsyncSession(engine, close_resets_only=False)
    await closed.close()
    for session, words in (
        (closed, "permanently closed"),
        (AsyncSession(engine, autobegin=False), "begin"),
        (AsyncSession(), "must have one engine"),
    ):
        with pytest.raises(InvalidOption, match=words):
            await greet.using(connection=session).enqueue("Ada")
        await session.close()
    await engine.dispose()


async def test_psycopg_in_autocommit_is_taken_inside_of_its_transaction(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        with connection.transaction():
            greet.using(connection=connection).enqueue_sync("Ada")
        with connection.transaction(force_rollback=True):
            greet.using(connection=connection).enqueue_sync("Bob")
    assert await names(app) == ["Ada"]


async def test_psycopgs_row_factories_and_cursors_do_not_matter(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    with psycopg.connect(database_url, row_factory=dict_row, cursor_factory=psycopg.RawCursor) as connection:
        first = greet.using(connection=connection, unique="key").enqueue_sync("Ada")
        second = greet.using(connection=connection, unique="key").enqueue_sync("Bob")
    assert (second.id, second.is_duplicate) == (first.id, True)
    assert await names(app) == ["Ada"]


async def test_psycopg_in_a_pipeline_is_refused_and_goes_on(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    with psycopg.connect(database_url) as connection:
        with connection.pipeline():
            connection.execute("SELECT 1")
            with pytest.raises(InvalidOption, match="before or after the block"):
                greet.using(connection=connection).enqueue_sync("refused")
        greet.using(connection=connection).enqueue_sync("Ada")
    async with await psycopg.AsyncConnection.connect(database_url) as other, other.pipeline():
        with pytest.raises(InvalidOption, match="before or after the block"):
            await greet.using(connection=other).enqueue("refused")
    assert await names(app) == ["Ada"]


@pytest.mark.needs_session("it ends the server's sessions, which are the pooler's")
async def test_connection_that_is_lost_raises_the_error_of_its_driver(
    greet: Task[[str], str], database_url: str, connection: asyncpg.Connection
) -> None:
    end_all = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'"
    one, two = (driver.connect(database_url, application_name="victim") for driver in (psycopg, psycopg2))
    await connection.execute(end_all)
    for victim, error in ((one, psycopg.OperationalError), (two, psycopg2.OperationalError)):
        with pytest.raises(error):
            greet.using(connection=victim).enqueue_sync("Ada")
        victim.close()


async def test_plain_session_is_given_to_an_async_enqueue_too(
    app: Rowlock, greet: Task[[str], str], database_url: str
) -> None:
    engine = synchronous_engine_for(database_url, "psycopg")
    with Session(engine) as session, session.begin():
        await greet.using(connection=session).enqueue("Ada")
    engine.dispose()
    assert await names(app) == ["Ada"]


class OtherDialect(PGDialect_asyncpg):
    """A PostgreSQL dialect of another driver."""

    driver = "other"
    supports_statement_cache = True


async def test_other_drivers_and_databases_are_refused(greet: Task[[str], str], database_url: str) -> None:
    registry.impls["postgresql.other"] = lambda: OtherDialect
    other = engine_for(database_url, "other")
    memory: Engine = create_engine("sqlite://")
    async with AsyncSession(other) as session, other.connect() as connection:
        with Session(memory) as plain_session, memory.connect() as plain_connection:
            for given in (session, connection, plain_session, plain_connection, memory, other):
                with pytest.raises(InvalidOption, match="over postgresql\\+asyncpg"):
                    await greet.using(connection=given).enqueue("Ada")
    await other.dispose()
    memory.dispose()


@pytest.mark.parametrize("given", ["postgresql://x", object(), 1])
async def test_what_is_no_connection_is_refused(greet: Task[[str], str], given: object) -> None:
    with pytest.raises(InvalidOption, match="must be one of asyncpg, psycopg"):
        await greet.using(connection=given).enqueue("Ada")
