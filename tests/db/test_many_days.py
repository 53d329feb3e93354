"""An archive of a thousand days: whatever is read of it locks a bounded number of partitions at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock import JobFilter, JobNotFound, Rowlock, Settings, migrations
from rowlock.cli.doctor import examine
from rowlock.embedded import EmbeddedServer, temporary_server
from rowlock.queue import connections
from rowlock.queue.audits import Scope, audit
from rowlock.queue.connected import Connected
from rowlock.queue.identifiers import uuid7

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Look: TypeAlias = Callable[[Rowlock, UUID], Awaitable[object]]

MOST_LOCKS: Final = 300
OLD: Final = 900
"""How many days ago the job ended that is looked for."""

MAKE: Final = """
DO $$
DECLARE
    day date;
BEGIN
    FOR ago IN 1..1000 LOOP
        day := (now() AT TIME ZONE 'UTC')::date - ago;
        EXECUTE format(
            'CREATE TABLE rowlock.finished_job_%s PARTITION OF rowlock.finished_job FOR VALUES FROM (%L) TO (%L)',
            to_char(day, 'YYYYMMDD'), day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC'
        );
        IF ago % 10 = 0 THEN
            PERFORM rowlock.create_partition('attempt', day);
            COMMIT;
        END IF;
    END LOOP;
END $$
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server with room for a few hundred locks, and an archive of a thousand days."""
    with temporary_server(settings={"max_locks_per_transaction": "20", "max_connections": "30"}) as server:
        migrations.upgrade(Settings(database_url=server.url))
        asyncio.run(_fill(server))
        yield server.url


async def _fill(server: EmbeddedServer) -> None:
    connection = await asyncpg.connect(server.url)
    await connection.execute(MAKE)
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, worker, error) "
        "SELECT rowlock.uuid7(), 'old', 'failed', 1, 0, at, at, at, 1, 1, 5, 'default', '{}', rowlock.uuid7(), 'E: 1' "
        "FROM (SELECT now() - ago * interval '1 day' AS at FROM generate_series(1, 1000, 100) AS ago) AS ended"
    )
    await connection.close()


@pytest.fixture
async def connection(url: str) -> AsyncIterator[Connection]:
    opened = await asyncpg.connect(url)
    yield opened
    opened.terminate()


@pytest.fixture
def locks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many locks each transaction of the application held at its end."""
    held: list[int] = []
    own_transaction = connections.own_transaction

    @asynccontextmanager
    async def counted(connection: Any) -> AsyncIterator[None]:  # noqa: ANN401  # a connection or a proxy
        async with own_transaction(connection):
            yield
            held.append(await connection.fetchval("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"))

    async def fetch(self: Connected, name: str, *parameters: object) -> list[asyncpg.Record]:
        async with self.connection() as connection, counted(connection):
            return await connection.fetch(self._sql(name), *parameters)

    monkeypatch.setattr(connections, "own_transaction", counted)
    monkeypatch.setattr(Connected, "_fetch", fetch)
    return held


async def put(connection: Connection, ago: int, job: UUID) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, worker, error) "
        "SELECT $1, 'old', 'failed', 1, 0, at, at, at, 1, 1, 5, 'default', '{}', $1, 'E: 1' "
        "FROM (SELECT now() - $2 * interval '1 day' AS at) AS ended",
        job,
        ago,
    )


async def result(app: Rowlock, job: UUID) -> object:
    return await app.get(job)


async def show(app: Rowlock, job: UUID) -> object:
    return (await app.get(job), await app.client.attempts(job), await app.logs(job))


async def cancel(app: Rowlock, job: UUID) -> object:
    with pytest.raises(Exception, match="has failed already"):
        await app.cancel(job)
    return True


async def no_job(app: Rowlock, _job: UUID) -> object:
    with pytest.raises(JobNotFound):
        await app.get(uuid7())
    return True


async def discard(app: Rowlock, job: UUID) -> object:
    return (await app.discard(job)).discarded_at


async def delete(app: Rowlock, job: UUID) -> object:
    await app.delete(job)
    with pytest.raises(JobNotFound):
        await app.get(job)
    return True


async def retry(app: Rowlock, job: UUID) -> object:
    return (await app.retry(job)).state == "queued"


async def retry_many(app: Rowlock, job: UUID) -> object:
    return (
        await app.retry_many(JobFilter(state="failed", after=UUID(int=job.int - 1), before=UUID(int=job.int + 1)))
    ).count == 1


async def list_all(app: Rowlock, job: UUID) -> object:
    return job in [found.id for found in await app.jobs(limit=500)]


async def list_dead(app: Rowlock, job: UUID) -> object:
    return job in [found.id for found in await app.dead_letters(limit=500)]


async def group(app: Rowlock, _job: UUID) -> object:
    (found,) = await app.dead_letter_groups()
    return found.jobs == (await app.overview()).dead_letters


async def doctor(app: Rowlock, _job: UUID) -> object:
    return not [finding for finding in await examine(app.settings) if "cannot be looked at" in finding.detail]


async def audited(app: Rowlock, _job: UUID) -> object:
    return [found.why_not for found in await audit(app.client, Scope(days=2)) if found.why_not] == []


@pytest.mark.parametrize("version", [4, 7])
@pytest.mark.parametrize(
    "look",
    [
        result,
        show,
        cancel,
        no_job,
        discard,
        delete,
        retry,
        retry_many,
        list_all,
        list_dead,
        group,
        doctor,
        audited,
    ],
)
async def test_what_is_read_locks_a_bounded_number_of_partitions(
    look: Look, version: int, url: str, connection: Connection, locks: list[int]
) -> None:
    job = uuid4() if version == 4 else uuid7()  # made long after the end: neither says in which partition it is
    await put(connection, OLD, job)
    async with Rowlock(url) as app:
        assert await look(app, job)
    assert max(locks, default=0) <= MOST_LOCKS, "an audit has a transaction of its own"
    await connection.execute("DELETE FROM rowlock.job")


async def test_pages_go_back_through_all_days(url: str) -> None:
    async with Rowlock(url) as app:
        seen, page = list[UUID](), await app.jobs(limit=3)
        while True:
            seen += [job.id for job in page]
            if page.following is None:
                break
            page = await app.jobs(limit=3, before=page.following)
    assert seen == sorted(seen, reverse=True)
    assert len(set(seen)) == len(seen) >= 10


async def test_forty_gets_at_once_find_their_job(url: str, connection: Connection) -> None:
    job = uuid7()
    await put(connection, 0, job)
    async with Rowlock(url) as app:
        assert {found.id for found in await asyncio.gather(*(app.get(job) for _ in range(40)))} == {job}


async def test_a_job_is_found_whatever_its_id_says_of_its_time(url: str, connection: Connection) -> None:
    async with Rowlock(url) as app:
        for number, ago in enumerate((0, OLD, 5000)):
            for job in (UUID(int=number + 1), UUID(int=2**128 - 2 - number), uuid4(), uuid7()):
                await put(connection, ago, job)
                assert (await app.get(job)).id == job
