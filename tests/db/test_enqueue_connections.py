"""Enqueuing in the caller's transaction, whatever the connection is that holds it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import Engine, create_engine
from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from rowlock import InvalidArguments, InvalidOption, JobNotFound, Rowlock, Settings, Task
from tests.db.callers import KINDS, Opened, engine_for

SQLALCHEMY = [name for name in KINDS if not name.startswith("asyncpg")]


@pytest.fixture(params=KINDS)
async def opened(request: pytest.FixtureRequest, database_url: str) -> AsyncIterator[Opened]:
    async with KINDS[request.param](database_url) as opened:
        yield opened


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
    return [job.args["name"] for job in reversed(await app.client.list_jobs())]


async def test_job_exists_from_the_commit_on(app: Rowlock, greet: Task[[str], str], opened: Opened) -> None:
    handle = await greet.using(connection=opened.given).enqueue("Ada")
    with pytest.raises(JobNotFound):
        await handle.get()
    await opened.commit()
    assert (await handle.get()).args == {"name": "Ada"}


async def test_rollback_takes_the_job_with_the_callers_own_writes(
    app: Rowlock, greet: Task[[str], str], opened: Opened, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE customer (name text)")
    await opened.execute("INSERT INTO customer VALUES ('Ada')")
    await greet.using(connection=opened.given).enqueue("Ada")
    await app.enqueue("greet", {"name": "Bob"}, connection=opened.given)
    await opened.rollback()
    assert await names(app) == []
    assert await connection.fetchval("SELECT count(*) FROM customer") == 0


async def test_savepoint_takes_only_its_own_jobs_and_keys(
    app: Rowlock, greet: Task[[str], str], opened: Opened
) -> None:
    await greet.using(connection=opened.given).enqueue("before")
    savepoint = await opened.savepoint()
    await greet.using(connection=opened.given, unique="key").enqueue("within")
    await app.enqueue_many([greet.job("within")], connection=opened.given)
    await savepoint.rollback()
    after = await greet.using(connection=opened.given, unique="key").enqueue("after")
    await opened.commit()
    assert not after.is_duplicate
    assert await names(app) == ["before", "after"]


async def test_kept_savepoint_keeps_its_jobs(app: Rowlock, greet: Task[[str], str], opened: Opened) -> None:
    savepoint = await opened.savepoint()
    await greet.using(connection=opened.given).enqueue("within")
    await savepoint.commit()
    await opened.commit()
    assert await names(app) == ["within"]


async def test_duplicate_points_to_the_holder_of_the_key(app: Rowlock, greet: Task[[str], str], opened: Opened) -> None:
    outside = await greet.using(unique="outside").enqueue("first")
    duplicate = await greet.using(connection=opened.given, unique="outside").enqueue("second")
    inside = await greet.using(connection=opened.given, unique="inside").enqueue("third")
    again = await greet.using(connection=opened.given, unique="inside").enqueue("fourth")
    await opened.commit()
    assert (duplicate.is_duplicate, duplicate.id) == (True, outside.id)
    assert (again.is_duplicate, again.id) == (True, inside.id)
    assert await names(app) == ["first", "third"]


@pytest.mark.parametrize("is_committed", [True, False])
async def test_many_jobs_are_part_of_the_transaction(
    app: Rowlock, greet: Task[[str], str], opened: Opened, is_committed: bool
) -> None:
    holder = await greet.using(unique="taken").enqueue("holder")
    jobs = [greet.job(str(n)) for n in range(20)]
    jobs += [greet.using(unique="taken").job("duplicate"), greet.using(delay=60, timeout=3, unique="new").job("later")]
    handles = await app.enqueue_many(jobs, connection=opened.given)
    assert [handle.id for handle in handles] == [job.id for job in jobs[:20]] + [holder.id, jobs[21].id]
    assert [handle.is_duplicate for handle in handles] == [False] * 20 + [True, False]
    await (opened.commit() if is_committed else opened.rollback())
    expected = ["holder", *map(str, range(20)), "later"] if is_committed else ["holder"]
    assert sorted(await names(app)) == sorted(expected)


async def test_bad_arguments_leave_the_transaction_usable(
    app: Rowlock, greet: Task[[str], str], opened: Opened
) -> None:
    await greet.using(connection=opened.given).enqueue("before")
    with pytest.raises(InvalidArguments):
        await greet.using(connection=opened.given).enqueue(1)  # type: ignore[arg-type]  # the wrong call
    with pytest.raises(InvalidArguments):
        await app.enqueue("greet", {"name": "\0"}, connection=opened.given)
    with pytest.raises(InvalidOption):
        await app.enqueue("greet", {"name": "x"}, priority=10, connection=opened.given)
    await greet.using(connection=opened.given).enqueue("after")
    await opened.commit()
    assert await names(app) == ["before", "after"]


async def test_every_option_arrives_as_it_was_given(
    app: Rowlock, greet: Task[[str], str], opened: Opened, connection: asyncpg.Connection
) -> None:
    due = datetime(2100, 1, 1, tzinfo=UTC)
    options: dict[str, Any] = {"queue": "q", "priority": 9, "max_attempts": 3, "timeout": 1.5, "run_at": due}
    one = await greet.using(connection=opened.given, **options).enqueue("é % $1 :name")
    [two] = await app.enqueue_many([greet.using(**options).job("é % $1 :name")], connection=opened.given)
    await opened.commit()
    for handle in (one, two):
        job = await handle.get()
        assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("q", 9, 3, timedelta(seconds=1.5))
        assert (job.run_at, job.args) == (due, {"name": "é % $1 :name"})
    assert await connection.fetchval("SELECT bool_and(jsonb_typeof(args) = 'object') FROM rowlock.job")


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


async def test_closed_asyncpg_connection_is_refused(greet: Task[[str], str], connection: asyncpg.Connection) -> None:
    await connection.close()
    with pytest.raises(InvalidOption, match="closed"):
        await greet.using(connection=connection).enqueue("Ada")


async def test_connection_that_its_pool_has_back_is_refused(greet: Task[[str], str], database_url: str) -> None:
    async with asyncpg.create_pool(database_url, min_size=1, max_size=1) as pool:
        async with pool.acquire() as released:
            pass
        with pytest.raises(InvalidOption, match="released back to the pool"):
            await greet.using(connection=released).enqueue("Ada")


@pytest.mark.parametrize("kind", KINDS)
async def test_failed_transaction_is_refused_until_it_is_rolled_back(
    app: Rowlock, greet: Task[[str], str], database_url: str, kind: str
) -> None:
    async with KINDS[kind](database_url) as opened:
        with pytest.raises((DBAPIError, asyncpg.DivisionByZeroError)):
            await opened.execute("SELECT 1 / 0")
        with pytest.raises(InvalidOption, match="roll it back"):
            await greet.using(connection=opened.given).enqueue("refused")
        with pytest.raises(InvalidOption, match="roll it back"):
            await greet.using(connection=opened.given, unique="key").enqueue("refused")
        with pytest.raises(InvalidOption, match="roll it back"):
            await app.enqueue_many([greet.job("refused")], connection=opened.given)
        await opened.rollback()
        if kind.startswith("asyncpg"):
            await greet.using(connection=opened.given).enqueue("taken")
            assert await names(app) == ["taken"]
            return
        await greet.using(connection=opened.given).enqueue("taken")
        await opened.commit()
    assert await names(app) == ["taken"]


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
        with pytest.raises(InvalidOption, match="roll it back"):
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
        with pytest.raises(InvalidOption, match="give none"):
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
        (AsyncSession(), "no single engine"),
    ):
        with pytest.raises(InvalidOption, match=words):
            await greet.using(connection=session).enqueue("Ada")
        await session.close()
    await engine.dispose()


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
    with pytest.raises(InvalidOption, match="is not known"):
        await greet.using(connection=given).enqueue("Ada")
