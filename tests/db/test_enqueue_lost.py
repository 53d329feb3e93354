"""Enqueues whose answer is lost, that meet a deadlock, or that are cancelled in the middle."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, nullcontext, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from rowlock import DatabaseUnavailable, EnqueueUnknown, NewJob, Rowlock, Settings, Task, Unique
from rowlock.queue.connect import drivers
from rowlock.queue.connect.statements import statement
from rowlock.queue.enqueue import store
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import LIVE
from tests.db.proxy import CuttingProxy, cutting_proxy
from tests.waiting import eventually

if TYPE_CHECKING:
    from tests.conftest import Server

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def proxy(server: Server) -> AsyncIterator[CuttingProxy]:
    async with cutting_proxy(server.socket_dir) as proxy:
        yield proxy


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
async def far(proxy: CuttingProxy, server: Server, direct_url: str) -> AsyncIterator[Rowlock]:
    """An application behind the proxy, which is connected, and knows the statements of an enqueue already."""
    url = direct_url.replace(quote(server.socket_dir), quote(str(proxy.folder)))
    async with Rowlock(url) as app:
        add_task(app)
        yield app


def add_task(app: Rowlock) -> Task[[str], str]:
    @app.task(queue="greetings")
    async def greet(name: str) -> str:
        return f"Hello, {name}"

    return greet


def greet_of(app: Rowlock) -> Task[[str], str]:
    found: Task[[str], str] = app.tasks["greet"]
    return found


async def one(app: Rowlock) -> object:
    return await greet_of(app).enqueue("Ada")


async def one_by_name(app: Rowlock) -> object:
    return await app.enqueue("greet", {"name": "Ada"})


async def one_with_a_key(app: Rowlock) -> object:
    return await greet_of(app).using(unique="ada").enqueue("Ada")


async def many(app: Rowlock) -> object:
    return await app.enqueue_many(greet_of(app).job("Ada") for _ in range(3))


async def many_with_keys(app: Rowlock) -> object:
    return await app.enqueue_many(greet_of(app).using(unique=f"ada:{n}").job("Ada") for n in range(3))


Enqueue: TypeAlias = Callable[[Rowlock], Awaitable[object]]
ALONE: list[Enqueue] = [one, one_by_name, one_with_a_key]
WAYS: list[Enqueue] = [*ALONE, many, many_with_keys]


async def stored(connection: Connection) -> Counter[object]:
    rows = await connection.fetch("SELECT id FROM rowlock.job UNION ALL SELECT id FROM rowlock.finished_job")
    return Counter(row["id"] for row in rows)


async def lose(far: Rowlock, proxy: CuttingProxy, enqueue: Enqueue, *, arrives: bool) -> EnqueueUnknown:
    await enqueue(far)
    async with far.database.connection() as own:
        await own.execute("TRUNCATE rowlock.job, rowlock.unique_key")
    proxy.arrives = arrives
    proxy.cut_at = b'"Ada"' if enqueue in ALONE else b"COMMIT;"
    with pytest.raises(EnqueueUnknown) as caught:
        await enqueue(far)
    assert proxy.cuts == 1
    return caught.value


@pytest.mark.parametrize("arrives", [True, False], ids=["answer lost", "request lost"])
@pytest.mark.parametrize("enqueue", WAYS)
async def test_an_enqueue_whose_answer_was_lost_is_safe_to_do_again_at_any_time(
    enqueue: Enqueue, arrives: bool, far: Rowlock, proxy: CuttingProxy, connection: Connection
) -> None:
    error = await lose(far, proxy, enqueue, arrives=arrives)
    expected = Counter(job.id for job in error.jobs)
    assert len(expected) == (1 if enqueue in ALONE else 3)
    assert str(error.jobs[0].id) in str(error)
    assert await stored(connection) == (expected if arrives else Counter())

    for _ in range(2):
        handles = await far.enqueue_many(error.jobs)
        assert [handle.id for handle in handles] == [job.id for job in error.jobs]
        assert not any(handle.is_duplicate for handle in handles)
        assert await stored(connection) == expected, "live ones are left alone"

    await far.jobs.cancel(error.jobs[0].id)
    handles = await far.enqueue_many(error.jobs)
    assert await stored(connection) == expected, "and so are those that have finished since"
    assert (await handles[0].get()).state == "cancelled"


async def test_a_job_that_finishes_while_it_is_enqueued_again_is_not_stored_again(
    app: Rowlock, connection: Connection
) -> None:
    new = add_task(app).job("Ada")
    others = [greet_of(app).job("Bob"), greet_of(app).job("Eve")]
    await app.enqueue_many([new])
    finishing = connection.transaction()
    await finishing.start()
    await connection.fetch(statement("cancel", "rowlock"), [new.id], None, None, sorted(map(str, LIVE)))
    again = asyncio.create_task(app.enqueue_many([others[0], new, others[1]]))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    await eventually(lambda: connection.fetchval(waiting))
    await finishing.commit()
    await again
    assert await stored(connection) == Counter(job.id for job in (new, *others))


FINISHED: dict[str, dict[str, Any]] = {
    "plain": {},
    "keyed": {"unique": Unique("k")},
    "its key is another's": {"unique": Unique("k", on_duplicate="raise")},
}
IDS: dict[str, Callable[[], UUID]] = {
    "young": uuid7,
    "old": lambda: UUID("0190aaaa-0000-7000-8000-000000000001"),
    "random": uuid4,
}


@pytest.mark.parametrize("id_, most", [("young", 1), ("young", 1000), ("old", 1000), ("random", 1000)])
@pytest.mark.parametrize("options", FINISHED)
@pytest.mark.parametrize("isolation", [None, "read_committed"], ids=["own", "caller's"])
async def test_a_finished_job_is_not_stored_again(
    *,
    isolation: str | None,
    options: str,
    id_: str,
    most: int,
    app: Rowlock,
    connection: Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "_MOST_FOUND", most)
    greet = add_task(app)
    first = msgspec.structs.replace(greet.using(**FINISHED[options]).job("Ada"), id=IDS[id_]())
    async with connection.transaction() if isolation else nullcontext():
        given = drivers.or_own(connection if isolation else None)
        await app.enqueue_many([first], connection=given)
    await app.worker().drain()
    if options == "its key is another's":
        await greet.using(unique="k").enqueue("Eve")
    expected = await stored(connection)

    before, after = greet.job("Bob"), greet.using(delay=1).job("Zoe")
    async with connection.transaction() if isolation else nullcontext():
        handles = await app.enqueue_many([before, first, after], connection=given)
    assert [handle.id for handle in handles] == [before.id, first.id, after.id]
    assert not any(handle.is_duplicate for handle in handles)
    assert await stored(connection) == expected + Counter([before.id, after.id])
    assert await app.enqueue_many([]) == []


@pytest.mark.parametrize("days", [-2, 2])
async def test_a_finished_job_is_not_stored_again_by_a_machine_whose_clock_is_wrong(
    days: int, app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead = days * 86_400
    monkeypatch.setattr(store, "time", SimpleNamespace(time=lambda: time.time() + ahead))
    new = msgspec.structs.replace(add_task(app).job("Ada"), id=UUID(int=uuid7().int + (ahead * 1000 << 80)))
    await app.enqueue_many([new])
    await app.worker().drain()
    await app.enqueue_many([new])
    assert await stored(connection) == Counter([new.id])


@pytest.mark.parametrize("enqueue", WAYS)
async def test_without_any_connection_nothing_is_unknown(
    enqueue: Enqueue, tmp_path_factory: pytest.TempPathFactory
) -> None:
    nowhere = tmp_path_factory.mktemp("nowhere")
    async with Rowlock(f"postgresql://postgres@/none?host={quote(str(nowhere))}&port=5432") as app:
        add_task(app)
        with pytest.raises(DatabaseUnavailable):
            await enqueue(app)


async def test_an_error_of_the_callers_generator_is_his(app: Rowlock, connection: Connection) -> None:
    greet = add_task(app)

    def failing() -> Iterator[NewJob[str]]:
        yield greet.job("Ada")
        yield greet.job("Bob")
        raise FileNotFoundError("names.csv")

    with pytest.raises(FileNotFoundError, match=r"names\.csv"):
        await app.enqueue_many(failing())
    assert await stored(connection) == Counter()


async def fail_inserts(connection: Connection, sqlstate: str, times: int) -> None:
    """Let the next inserts of a job fail with this error; the sequence counts them, since no rollback resets it."""
    await connection.execute(
        f"""
        CREATE SEQUENCE tried;
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('public.tried') <= {times} THEN
                RAISE EXCEPTION 'not now' USING ERRCODE = '{sqlstate}';
            END IF;
            RETURN NULL;
        END $$;
        CREATE TRIGGER fail AFTER INSERT ON rowlock.job FOR EACH STATEMENT EXECUTE FUNCTION public.fail();
        """
    )


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"], ids=["serialization failure", "deadlock"])
@pytest.mark.parametrize("enqueue", WAYS)
async def test_deadlocks_and_serialization_failures_are_tried_again(
    enqueue: Enqueue, sqlstate: str, app: Rowlock, connection: Connection
) -> None:
    add_task(app)
    await fail_inserts(connection, sqlstate, 3)
    await enqueue(app)
    assert len(await stored(connection)) == (1 if enqueue in ALONE else 3)


async def test_a_deadlock_that_does_not_end_is_told_in_the_end(app: Rowlock, connection: Connection) -> None:
    add_task(app)
    await fail_inserts(connection, "40P01", 1000)
    with pytest.raises(asyncpg.DeadlockDetectedError):
        await one(app)
    assert await connection.fetchval("SELECT last_value FROM tried") == 5


@pytest.mark.parametrize("enqueue", WAYS)
async def test_a_server_that_takes_no_writes_stores_nothing_and_that_is_certain(
    enqueue: Enqueue, app: Rowlock, connection: Connection
) -> None:
    add_task(app)
    await fail_inserts(connection, "25006", 1000)
    with pytest.raises(DatabaseUnavailable, match="takes no writes"):
        await enqueue(app)
    assert await connection.fetchval("SELECT last_value FROM tried") > 1, "on another connection"
    await connection.execute("ALTER SEQUENCE tried RESTART 1000")
    await enqueue(app)
    assert len(await stored(connection)) == (1 if enqueue in ALONE else 3)


async def test_cancelled_enqueues_leak_no_connection(app: Rowlock, connection: Connection) -> None:
    add_task(app)
    chance = random.Random(1)

    async def cancelled() -> None:
        task = asyncio.ensure_future(chance.choice(WAYS)(app))
        await asyncio.sleep(chance.uniform(0, 0.01))
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    for _ in range(20):
        await asyncio.gather(*(cancelled() for _ in range(15)))
    async with asyncio.timeout(5), AsyncExitStack() as stack:
        owns = [await stack.enter_async_context(app.database.connection()) for _ in range(10)]
        for own in owns:
            assert not own.is_in_transaction()
            assert await own.fetchval("SELECT 1") == 1
    await eventually(lambda: _has_at_most_ten(connection))


async def _has_at_most_ten(connection: Connection) -> bool:
    has: bool = await connection.fetchval(
        "SELECT count(*) <= 10 FROM pg_stat_activity "
        "WHERE application_name = 'rowlock client' AND datname = current_database()"
    )
    return has
