"""The same cases for every kind of connection to enqueue over: docs/connections.md has them as a table.

Over a synchronous connection it is `enqueue_sync` that is called.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import asyncpg
import psycopg2
import pytest
from django.db import Error as DjangoError
from psycopg import Error as PsycopgError
from sqlalchemy.exc import DBAPIError

from rowlock import (
    DuplicateJob,
    InvalidArguments,
    InvalidOption,
    JobFilter,
    JobHandle,
    JobNotFound,
    NewJob,
    Rowlock,
    Settings,
    Task,
    Unique,
)
from rowlock.queue.read.pages import list_jobs
from tests import conformance_table
from tests.conftest import POOLED, Server
from tests.db.callers import KINDS, Opened

Test = TypeVar("Test", bound=Callable[..., Any])

COLUMNS: dict[str, list[str]] = {}
"""The cases, as the page's table names them, and the kinds of connections that are tried."""

OPEN_AGAIN = [kind for kind in KINDS if "ession" in kind or "Django" in kind]
WITHOUT_AUTOCOMMIT = [kind for kind in KINDS if kind.startswith("asyncpg")]

_numbers = itertools.count(1)


def case(column: str, *, but: Sequence[str] = ()) -> Callable[[Test], Test]:
    """A case for all kinds of connections, but for those that do not know such a thing."""
    COLUMNS[column] = kinds = [kind for kind in KINDS if kind not in but]
    return pytest.mark.parametrize("opened", kinds, indirect=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """An application with one task of its own, and a caller's connection."""

    app: Rowlock
    greet: Task[[str], str]
    opened: Opened

    async def enqueue(self, name: str, **options: Any) -> JobHandle[str]:  # noqa: ANN401  # those of `using`
        bound = self.greet.using(connection=self.opened.given, **options)
        return bound.enqueue_sync(name) if self.opened.is_synchronous else await bound.enqueue(name)

    async def enqueue_by_name(self, args: dict[str, object], **options: Any) -> JobHandle[Any]:  # noqa: ANN401  # likewise
        options["connection"] = self.opened.given
        if self.opened.is_synchronous:
            return self.app.enqueue_sync(self.greet.name, args, **options)
        return await self.app.enqueue(self.greet.name, args, **options)

    async def enqueue_many(self, jobs: Sequence[NewJob[str]]) -> list[JobHandle[str]]:
        given = self.opened.given
        if self.opened.is_synchronous:
            return self.app.enqueue_many_sync(jobs, connection=given)
        return await self.app.enqueue_many(jobs, connection=given)

    async def names(self) -> list[str]:
        """The greetings that everybody can see, oldest first."""
        jobs = await list_jobs(self.app.database, JobFilter(task=self.greet.name))
        return [job.args["name"] for job in reversed(jobs)]


@pytest.fixture(scope="module")
def one_database(request: pytest.FixtureRequest, server: Server, template: str) -> Iterator[str]:
    """The DSN of one database for all cases: each has a task of its own."""

    async def execute(sql: str) -> None:
        connection = await asyncpg.connect(server.url("postgres"))
        await connection.execute(sql)
        await connection.close()

    asyncio.run(execute(f'CREATE DATABASE test_conformance TEMPLATE "{template}"'))
    asyncio.run(_make_table(server.url("test_conformance")))
    yield (request.getfixturevalue("pooler") if POOLED else server).url("test_conformance")
    asyncio.run(execute("DROP DATABASE test_conformance WITH (FORCE)"))


async def _make_table(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE customer (name text)")
    await connection.close()


@pytest.fixture
async def opened(request: pytest.FixtureRequest, one_database: str) -> AsyncIterator[Opened]:
    async with KINDS[request.param](one_database) as opened:
        yield opened


@pytest.fixture
async def shop(one_database: str, opened: Opened) -> AsyncIterator[Shop]:
    async with Rowlock(settings=Settings(database_url=one_database)) as app:

        @app.task(name=f"greet_{next(_numbers)}", queue="greetings")
        async def greet(name: str) -> str:
            return f"Hello, {name}"

        yield Shop(app=app, greet=greet, opened=opened)


@case("commit")
async def test_job_exists_from_the_commit_on(shop: Shop) -> None:
    handle = await shop.enqueue("Ada")
    with pytest.raises(JobNotFound):
        await handle.get()
    await shop.opened.commit()
    assert (await handle.get()).args == {"name": "Ada"}


@case("rollback")
async def test_rollback_takes_the_job_with_the_callers_own_writes(shop: Shop) -> None:
    await shop.opened.execute(f"INSERT INTO customer VALUES ('{shop.greet.name}')")
    await shop.enqueue("Ada")
    await shop.enqueue_by_name({"name": "Bob"})
    await shop.opened.rollback()
    assert await shop.names() == []
    async with shop.app.database.connection() as own:
        assert await own.fetchval("SELECT count(*) FROM customer WHERE name = $1", shop.greet.name) == 0


@case("savepoint rolled back")
async def test_savepoint_takes_only_its_own_jobs_and_keys(shop: Shop) -> None:
    await shop.enqueue("before")
    savepoint = await shop.opened.savepoint()
    await shop.enqueue("within", unique="key")
    await shop.enqueue_many([shop.greet.job("within")])
    await savepoint.rollback()
    after = await shop.enqueue("after", unique="key")
    await shop.opened.commit()
    assert not after.is_duplicate
    assert await shop.names() == ["before", "after"]


@case("savepoint kept")
async def test_kept_savepoint_keeps_its_jobs(shop: Shop) -> None:
    savepoint = await shop.opened.savepoint()
    await shop.enqueue("within")
    await savepoint.commit()
    await shop.opened.commit()
    assert await shop.names() == ["within"]


@case("duplicate")
async def test_duplicate_points_to_the_holder_of_the_key(shop: Shop) -> None:
    outside = await shop.greet.using(unique="outside").enqueue("first")
    duplicate = await shop.enqueue("second", unique="outside")
    inside = await shop.enqueue("third", unique="inside")
    again = await shop.enqueue("fourth", unique="inside")
    await shop.opened.commit()
    assert (duplicate.is_duplicate, duplicate.id) == (True, outside.id)
    assert (again.is_duplicate, again.id) == (True, inside.id)
    assert await shop.names() == ["first", "third"]


@case("duplicate refused")
async def test_transaction_goes_on_after_a_duplicate_was_refused(shop: Shop) -> None:
    refusing = Unique("taken", on_duplicate="raise")
    await shop.greet.using(unique="taken").enqueue("holder")
    await shop.enqueue("before")
    with pytest.raises(DuplicateJob):
        await shop.enqueue("refused", unique=refusing)
    with pytest.raises(DuplicateJob):
        await shop.enqueue_many([shop.greet.job("refused"), shop.greet.using(unique=refusing).job("refused")])
    await shop.enqueue("after")
    await shop.opened.commit()
    assert await shop.names() == ["holder", "before", "after"]


@case("many at once")
async def test_many_jobs_are_part_of_the_transaction(shop: Shop) -> None:
    holder = await shop.greet.using(unique="taken").enqueue("holder")
    await shop.enqueue_many([shop.greet.job("gone"), shop.greet.using(unique="new").job("gone")])
    await shop.opened.rollback()
    jobs = [shop.greet.job(str(n)) for n in range(20)]
    jobs.append(shop.greet.using(unique="taken").job("duplicate"))
    jobs.append(shop.greet.using(delay=60, timeout=3, unique="new").job("later"))
    handles = await shop.enqueue_many(jobs)
    assert await shop.names() == ["holder"]
    await shop.opened.commit()
    assert [handle.id for handle in handles] == [job.id for job in jobs[:20]] + [holder.id, jobs[21].id]
    assert [handle.is_duplicate for handle in handles] == [False] * 20 + [True, False]
    assert sorted(await shop.names()) == sorted(["holder", *map(str, range(20)), "later"])


@case("all options")
async def test_every_option_arrives_as_it_was_given(shop: Shop) -> None:
    due, end = datetime(2050, 1, 1, tzinfo=UTC), datetime(2051, 1, 1, tzinfo=UTC)
    text = "é % %s %(1)s $1 :name {} \\ ' \" -- x"
    options: dict[str, Any] = {"queue": "q", "priority": 9, "max_attempts": 3, "timeout": 1.5, "run_at": due}
    options |= {"expires": end, "deadline": timedelta(days=36_000)}
    one = await shop.enqueue(text, **options, unique=Unique(text, period=3600))
    [two] = await shop.enqueue_many([shop.greet.using(**options).job(text)])
    await shop.opened.commit()
    for handle in (one, two):
        job = await handle.get()
        assert (job.queue, job.priority, job.max_attempts, job.timeout) == ("q", 9, 3, timedelta(seconds=1.5))
        assert (job.run_at, job.expires_at, job.args) == (due, end, {"name": text})
        assert job.deadline is not None
        assert job.deadline > end
    assert (await shop.greet.using(unique=Unique(text, period=3600)).enqueue(text)).id == one.id


@case("bad arguments")
async def test_transaction_goes_on_after_bad_arguments(shop: Shop) -> None:
    await shop.enqueue("before")
    with pytest.raises(InvalidArguments):
        await shop.enqueue(1)  # type: ignore[arg-type]  # the wrong call
    with pytest.raises(InvalidArguments):
        await shop.enqueue_by_name({"name": "\0"})
    with pytest.raises(InvalidOption):
        await shop.enqueue_by_name({"name": "x"}, priority=10)
    await shop.enqueue("after")
    await shop.opened.commit()
    assert await shop.names() == ["before", "after"]


@case("failed transaction")
async def test_failed_transaction_is_refused_until_it_is_rolled_back(shop: Shop) -> None:
    with pytest.raises((asyncpg.PostgresError, PsycopgError, psycopg2.Error, DBAPIError, DjangoError)):
        await shop.opened.execute("SELECT 1 / 0")
    with pytest.raises(InvalidOption, match=r"[Rr]oll it back"):
        await shop.enqueue("refused")
    with pytest.raises(InvalidOption, match=r"[Rr]oll it back"):
        await shop.enqueue("refused", unique="key")
    with pytest.raises(InvalidOption, match=r"[Rr]oll it back"):
        await shop.enqueue_many([shop.greet.job("refused")])
    await shop.opened.rollback()
    await shop.enqueue("taken")
    await shop.opened.commit()
    assert await shop.names() == ["taken"]


@case("closed", but=OPEN_AGAIN)
async def test_closed_connection_is_refused(shop: Shop) -> None:
    assert shop.opened.close is not None
    await shop.opened.close()
    with pytest.raises(InvalidOption, match=r"closed|released"):
        await shop.enqueue("refused")
    assert await shop.names() == []


@case("autocommit", but=WITHOUT_AUTOCOMMIT)
async def test_autocommit_is_refused_with_the_remedy(shop: Shop) -> None:
    assert shop.opened.begin_autocommit is not None
    await shop.opened.begin_autocommit()
    with pytest.raises(InvalidOption, match=r"(?i)autocommit.* omit connection .* in a transaction of its own"):
        await shop.enqueue("refused")
    with pytest.raises(InvalidOption, match=r"(?i)autocommit"):
        await shop.enqueue_many([shop.greet.job("refused"), shop.greet.using(unique="k").job("refused")])
    assert await shop.names() == []


async def test_asynchronous_connection_is_refused_by_what_is_synchronous(one_database: str) -> None:
    refused = 0
    for open_kind in KINDS.values():
        async with open_kind(one_database) as opened:
            if opened.is_synchronous:
                continue
            async with Rowlock(settings=Settings(database_url=one_database)) as app:
                with pytest.raises(InvalidOption, match=r"Await enqueue\(\.\.\.\), or give"):
                    app.enqueue_many_sync([], connection=opened.given)
                refused += 1
    assert refused == sum("sync" in kind.lower() for kind in KINDS)


def test_page_has_the_table_of_what_is_tried_here() -> None:
    assert conformance_table.table(KINDS, COLUMNS) in conformance_table.PAGE.read_text(), (
        "run: python -m tests.conformance_table"
    )
