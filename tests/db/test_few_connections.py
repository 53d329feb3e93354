"""A role with few connections: a worker has what it needs before it claims, or says so; nothing runs twice."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import Job, Rowlock, Settings
from rowlock.errors import DatabaseUnavailable
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.worker.worker import Worker
from tests.logged import capture_logs
from tests.process_tasks import pid
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.needs_session("a pooler has its own connections")

NEEDED = 6
"""Of a worker: claiming, finishing, upkeep, the lease, and one of the application's pool."""


class Role:
    """A role with so many connections, and an application that uses it."""

    def __init__(self, connection: Connection, name: str, settings: Settings) -> None:
        self._connection = connection
        self._name = name
        self.settings = settings
        assert settings.database_url is not None
        self.url = settings.database_url

    async def limit(self, most: int) -> None:
        await self._connection.execute(f"ALTER ROLE {self._name} CONNECTION LIMIT {most}")


@pytest.fixture
async def role(connection: Connection, settings: Settings, database_url: str) -> AsyncIterator[Role]:
    name = f"few_{uuid7().hex}"
    # It owns nothing and inherits: no superuser, of whom no limit holds.
    await connection.execute(f"CREATE ROLE {name} LOGIN; GRANT postgres TO {name}")
    short = replace(
        settings,
        database_url=database_url.replace("postgres@", f"{name}@"),
        lease=timedelta(seconds=2),
        heartbeat=timedelta(seconds=0.2),
        poll_interval=timedelta(seconds=0.05),
    )
    yield Role(connection, name, short)
    await connection.execute(f"DROP ROLE {name}")


async def attempts(connection: Connection) -> Counter[int]:
    """How many jobs have made how many attempts, once all of them have ended."""
    await eventually(lambda: connection.fetchval("SELECT NOT EXISTS (SELECT FROM rowlock.job)"), timeout=30)
    rows = await connection.fetch("SELECT state, attempt FROM rowlock.jobs")
    assert {row["state"] for row in rows} == {"succeeded"}
    return Counter(row["attempt"] for row in rows)


async def work_through(worker: Worker, connection: Connection) -> Counter[int] | str:
    """Run a worker until all jobs have ended. Returns their attempts, or what it said when it could not begin."""
    running = asyncio.create_task(worker.run(handle_signals=False))
    over = asyncio.create_task(attempts(connection))
    await asyncio.wait([running, over], return_when="FIRST_COMPLETED")
    worker.stop()
    try:
        await running
    except DatabaseUnavailable as error:
        over.cancel()
        await asyncio.gather(over, return_exceptions=True)
        return str(error)
    return await over


async def outlast_a_lease(worker: Worker) -> None:
    """Wait for renewals that together last longer than a lease."""
    before = worker.figures.lease_renewals if worker.figures else 0
    await eventually(lambda: worker.figures is not None and worker.figures.lease_renewals > before + 12, timeout=20)


@pytest.mark.parametrize("limit", range(1, 10))
async def test_a_worker_beside_an_enqueuer_runs_each_job_once_or_says_what_it_needs(
    role: Role, connection: Connection, limit: int
) -> None:
    began: list[int] = []
    async with Rowlock(settings=role.settings) as app:

        @app.task
        async def work(number: int) -> None:
            began.append(number)
            await outlast_a_lease(worker)

        worker = app.worker(concurrency=4)
        await role.limit(limit)
        enqueuer = await asyncpg.connect(role.url)
        await work.using(connection=enqueuer).enqueue(1)
        said = await work_through(worker, connection)
        await enqueuer.close()
    if limit < NEEDED + 1:
        assert isinstance(said, str)
        assert re.search(rf"\b{NEEDED} connections\b", said), said
        if limit > 1:  # one is left to ask the server by
            assert re.search(rf"\bCONNECTION LIMIT of {limit}\b", said), said
        assert began == []
        assert await connection.fetchval("SELECT state FROM rowlock.jobs") == "queued"
        assert await connection.fetchval("SELECT count(*) FROM rowlock.worker WHERE expires_at > now()") == 0
    else:
        assert said == {1: 1}
        assert began == [1]


async def test_a_second_worker_that_has_no_room_says_so_and_the_first_one_goes_on(
    role: Role, connection: Connection
) -> None:
    await role.limit(NEEDED + 2)
    async with Rowlock(settings=role.settings) as app, Rowlock(settings=role.settings) as other:

        @app.task
        async def work(job: Job) -> int:
            await outlast_a_lease(worker)
            return job.attempt

        worker = app.worker()
        async with worker:
            handle = await work.enqueue()
            with pytest.raises(
                DatabaseUnavailable, match=f"needs {NEEDED} connections.* CONNECTION LIMIT of {NEEDED + 2}"
            ):
                await other.worker().run()
            await other.close()
            assert await handle.result(timeout=30) == 1


@pytest.mark.parametrize("is_roomy", [False, True])
async def test_tasks_whose_logs_are_kept_have_a_connection_for_them_before_the_first_claim(
    role: Role, connection: Connection, *, is_roomy: bool
) -> None:
    await role.limit(NEEDED + is_roomy)
    async with Rowlock(settings=role.settings) as app:

        @app.task(capture_logs=True)
        async def work(job: Job) -> None:
            logging.getLogger("shop").warning("attempt %d", job.attempt)
            await outlast_a_lease(worker)

        worker = app.worker()
        await connection.execute("SELECT rowlock.enqueue('work')")
        said = await work_through(worker, connection)
    if is_roomy:
        assert said == {1: 1}
        assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt_log") == 1
    else:
        assert isinstance(said, str)
        assert f"needs {NEEDED + 1} connections" in said


async def test_a_job_that_uses_its_transaction_and_one_in_a_process_run_once_within_what_the_role_has(
    role: Role, connection: Connection
) -> None:
    await role.limit(NEEDED + 3)  # retention and statistics may be under way at the same time
    async with Rowlock(settings=role.settings) as app:

        @app.task
        async def work(job: Job) -> None:
            await outlast_a_lease(worker)
            async with job.transaction() as own:
                await own.execute("SELECT")

        app.task(executor="process")(pid)
        worker = app.worker(concurrency=2)
        await connection.execute("SELECT rowlock.enqueue('work'), rowlock.enqueue('pid')")
        assert await work_through(worker, connection) == {1: 2}


async def test_a_worker_that_loses_its_connections_claims_nothing_before_it_can_renew_and_finish(
    role: Role, connection: Connection
) -> None:
    """Others are faster, and take what it had."""
    began: list[int] = []
    async with Rowlock(settings=role.settings) as app:

        @app.task
        async def work(job: Job) -> None:
            began.append(job.attempt)
            await outlast_a_lease(worker)

        worker = app.worker()
        async with worker:
            await role.limit(4)
            with capture_logs() as logged:
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                    "AND application_name IN ('rowlock lease', 'rowlock finish', 'rowlock claim')"
                )
                await connection.execute("SELECT rowlock.enqueue('work')")
                await eventually(lambda: sum(line["event"] == "claim_failed" for line in logged) >= 3, timeout=20)
            assert began == []
            await role.limit(-1)
            assert await attempts(connection) == {1: 1}
