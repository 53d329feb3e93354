"""A PgBouncer in transaction mode between Rowlock and the server, or between the applications alone and the server.

`make test-pgbouncer` runs the other tests of this folder through it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.embedded import make_private_directory
from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connect import sessions
from rowlock.queue.connect.sessions import ControlConnection
from tests import pgbouncer
from tests.conftest import Server
from tests.db.commands import rowlock
from tests.db.test_cli_doctor import statuses
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

pytestmark = pytest.mark.slow  # a pooler takes long to begin with


@pytest.fixture
def settings(pooled_url: str) -> Settings:
    return Settings(database_url=pooled_url, listen=False, poll_interval=timedelta(seconds=0.05))


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


async def test_each_transaction_may_have_another_session(pooled_url: str) -> None:
    connection = await asyncpg.connect(pooled_url)
    other = await asyncpg.connect(pooled_url)
    async with other.transaction():
        held = await other.fetchval("SELECT pg_backend_pid()")
        used = {await connection.fetchval("SELECT pg_backend_pid()") for _ in range(3)}
    after = {await connection.fetchval("SELECT pg_backend_pid()") for _ in range(3)}
    await connection.close()
    await other.close()
    assert held not in used
    assert held in after, "or these tests would show nothing"


async def test_jobs_run_with_all_that_handlers_can_do(app: Rowlock) -> None:
    @app.task(capture_logs=True)
    async def work(job: Job, n: int) -> int:
        job.progress(0.5)
        await job.save_checkpoint(n)
        async with job.transaction() as connection:
            await connection.execute("SELECT rowlock.enqueue('later')")
            job.set_result(await job.load_checkpoint())
        return n

    jobs = await asyncio.gather(*(work.enqueue(n) for n in range(20)))
    jobs += await app.enqueue_many([work.job(n) for n in range(20, 40)])
    async with app.worker(concurrency=10):
        assert await asyncio.gather(*(job.result(timeout=30) for job in jobs)) == list(range(40))


async def test_every_control_transaction_has_its_planner_settings(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = ", ".join(f"current_setting('{name}')" for name in sessions.PLANNER_SETTINGS)
    monkeypatch.setattr(sessions, "statement", lambda *_: f"SELECT {shown}, pg_backend_pid()")
    control = ControlConnection(settings, settings.database_url or "", purpose="test")
    busy = await asyncpg.connect(settings.database_url)
    first = await control.fetch("moment")
    async with busy.transaction():
        await busy.fetch("SELECT 1")
        second = await control.fetch("moment")
    third = await control.fetch("moment")
    await busy.close()
    await control.close()
    for (row,) in (first, second, third):
        assert list(row)[:-1] == list(sessions.PLANNER_SETTINGS.values())
    assert len({first[0][-1], second[0][-1], third[0][-1]}) > 1, "in more than one session"


async def idle(connection: Connection) -> bool:
    marked: bool = await connection.fetchval("SELECT EXISTS (SELECT FROM rowlock.idle_worker)")
    return marked


async def test_enqueues_by_way_of_a_pooler_wake_workers_that_listen_on_the_server(
    pooled_url: str, direct_url: str, connection: Connection
) -> None:
    rarely = timedelta(seconds=60)
    async with (
        Rowlock(settings=Settings(database_url=pooled_url, listen=False)) as site,
        Rowlock(settings=Settings(database_url=direct_url, listen=True, poll_interval=rarely)) as working,
    ):

        async def nothing() -> None: ...

        work = site.task(name="work")(nothing)
        working.task(name="work")(nothing)

        async def alone() -> UUID:
            return (await work.enqueue()).id

        async def many() -> UUID:
            return (await site.enqueue_many([work.job()]))[0].id

        async def within_a_transaction() -> UUID:
            async with site.database.connection() as own, own.transaction():
                return (await work.using(connection=own).enqueue()).id

        async with working.worker():
            for enqueue in (alone, many, within_a_transaction):
                await eventually(lambda: idle(connection))
                handle = working.handle(await site.get(await enqueue()))
                await handle.result(timeout=20)


@pytest.fixture
def forgetful_url(server: Server, database: str) -> Iterator[str]:
    """By way of a pooler that passes prepared statements on as they come, as those older than 1.21 did."""
    folder = make_private_directory("rowlock-pgbouncer-")
    try:
        with pgbouncer.PgBouncer(folder, server.socket_dir, max_prepared_statements=0) as running:
            yield running.url(database)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def test_a_pooler_that_forgets_prepared_statements_is_named_with_the_remedy(
    pooler: pgbouncer.PgBouncer, forgetful_url: str
) -> None:
    async with Rowlock(settings=Settings(database_url=forgetful_url, listen=False)) as app:
        await app.database.run("moment")
        busy = await asyncpg.connect(forgetful_url)
        async with busy.transaction():
            await busy.execute("SELECT 1")  # in the session in which the statement was prepared
            with pytest.raises(DatabaseUnavailable, match="max_prepared_statements"):
                await app.database.run("moment")
        await busy.close()
    doctor = await rowlock("doctor", "--json", url=forgetful_url, ROWLOCK_LISTEN="false")
    assert statuses(doctor)["pooler"] == "fail"
    assert "max_prepared_statements" in doctor.out


async def test_a_pooler_is_named_where_workers_would_listen(pooled_url: str, direct_url: str) -> None:
    refused = await rowlock("doctor", url=pooled_url, ROWLOCK_LISTEN="true")
    assert refused.code == 1
    assert "set ROWLOCK_LISTEN=false" in refused.out
    good = await rowlock("doctor", "--json", url=pooled_url, ROWLOCK_LISTEN="false")
    assert "pooler" not in statuses(good)
    assert "tracks prepared statements" in good.out
    assert "pooler" not in statuses(await rowlock("doctor", "--json", url=direct_url, ROWLOCK_LISTEN="true"))


async def test_a_pooler_that_ignores_what_it_cannot_do_is_found_by_the_doctor(
    pooler: pgbouncer.PgBouncer, server: Server, database: str
) -> None:
    folder = make_private_directory("rowlock-pgbouncer-")
    ignored = ",".join(("default_transaction_isolation", *sessions.PLANNER_SETTINGS, *sessions.SERVER_KEEPALIVE))
    try:
        with pgbouncer.PgBouncer(folder, server.socket_dir, ignore_startup_parameters=ignored) as silent:
            found = statuses(await rowlock("doctor", "--json", url=silent.url(database), ROWLOCK_LISTEN="true"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert (found["pooler"], found["listen"]) == ("warn", "fail")
