"""An archive of a thousand days: whatever reads or changes it locks a bounded number of partitions at a time."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest

from rowlock import JobFilter, JobNotFound, Rowlock, Settings, migrations
from rowlock.cli.commands.doctor import examine
from rowlock.embedded import EmbeddedServer, temporary_server
from rowlock.queue.connect import sessions
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.sessions import CUSTOM_PLAN
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.read.audits import Scope, audit
from rowlock.queue.read.pages import BY_ID
from rowlock.queue.read.reader import list_attempts
from rowlock.worker.duties.statistics import BY_TIME
from tests.db.test_statements import NAMES

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
pytestmark = pytest.mark.slow  # a database with many days takes long to make

Look: TypeAlias = Callable[[Rowlock, UUID], Awaitable[object]]

MOST_LOCKS: Final = 300
COUNT_LOCKS: Final = "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()"
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
    own_transaction = sessions.own_transaction

    @asynccontextmanager
    async def counted(connection: Any) -> AsyncIterator[None]:  # noqa: ANN401  # a connection or a proxy
        async with own_transaction(connection):
            yield
            held.append(await connection.fetchval(COUNT_LOCKS))

    async def run(self: Database, name: str, *parameters: object, connection: object = None) -> list[asyncpg.Record]:
        assert connection is None
        async with self.transaction() as transaction:
            return await transaction.run(name, *parameters)

    monkeypatch.setattr(sessions, "own_transaction", counted)
    monkeypatch.setattr(Database, "run", run)
    return held


async def put(
    connection: Connection,
    ago: int,
    job: UUID,
    *,
    task: str = "old",
    state: str = "failed",
    result: str | None = None,
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args, worker, error, result) "
        "SELECT $1, $3, $4, 1, 0, at, at, at, 1, 1, 5, 'default', '{}', $1, 'E: 1', $5::text::jsonb "
        "FROM (SELECT now() - $2 * interval '1 day' AS at) AS ended",
        job,
        ago,
        task,
        state,
        result,
    )


async def result(app: Rowlock, job: UUID) -> object:
    return await app.get(job)


async def show(app: Rowlock, job: UUID) -> object:
    return (await app.get(job), await list_attempts(app.database, job), await app.jobs.logs(job))


async def cancel(app: Rowlock, job: UUID) -> object:
    with pytest.raises(Exception, match="has failed already"):
        await app.jobs.cancel(job)
    return True


async def no_job(app: Rowlock, _job: UUID) -> object:
    with pytest.raises(JobNotFound):
        await app.get(uuid7())
    return True


async def discard(app: Rowlock, job: UUID) -> object:
    return (await app.jobs.discard(job)).discarded_at


async def delete(app: Rowlock, job: UUID) -> object:
    await app.jobs.delete(job)
    with pytest.raises(JobNotFound):
        await app.get(job)
    return True


async def retry(app: Rowlock, job: UUID) -> object:
    return (await app.jobs.retry(job)).state == "queued"


async def retry_many(app: Rowlock, job: UUID) -> object:
    return (
        await app.jobs.retry_many(JobFilter(state="failed", after=UUID(int=job.int - 1), before=UUID(int=job.int + 1)))
    ).count == 1


async def list_all(app: Rowlock, job: UUID) -> object:
    return job in [found.id for found in await app.jobs.list(limit=500)]


async def list_dead(app: Rowlock, job: UUID) -> object:
    return job in [found.id for found in await app.dead_letters.list(limit=500)]


async def group(app: Rowlock, _job: UUID) -> object:
    groups = await app.dead_letters.groups()
    return sum(group.jobs for group in groups) == (await app.overview()).dead_letters


async def doctor(app: Rowlock, _job: UUID) -> object:
    return not [finding for finding in await examine(app.settings) if "cannot be checked" in finding.detail]


async def audited(app: Rowlock, _job: UUID) -> object:
    return [found.why_not for found in await audit(app.database, Scope(days=2)) if found.why_not] == []


WORKER: Final = UUID(int=7)
TODAY: Final = datetime.now(UTC).date()
CONTROL: Final = sessions.PLANNER_SETTINGS
OUTCOME: Final = (WORKER, [WORKER], [1], [0.1])
ERROR: Final = (["error"], [True], ["E"], ["m"], ["t"])
EVER: Final = datetime(2, 1, 1, tzinfo=UTC)
WINDOW: Final = (datetime.now(UTC) - timedelta(days=OLD + 30), datetime.now(UTC) - timedelta(days=OLD))
FAILED: Final = JobFilter(state="failed").parameters()
NO_TIME: Final = timedelta(0)

STATEMENTS: Final[dict[str, tuple[Mapping[str, str], tuple[object, ...]]]] = {
    "again": (CONTROL, (*OUTCOME, [NO_TIME], *ERROR)),
    "cancel": (CUSTOM_PLAN, ([WORKER], None, None, ["queued"])),
    "count_dead_letters": (BY_ID, (None, *WINDOW)),
    "count_finished": (BY_TIME, (10, datetime.now(UTC) - timedelta(days=3), datetime.now(UTC), 100)),
    "create_partition": (CONTROL, ("finished_job", TODAY - timedelta(days=5000))),
    "delete": (CUSTOM_PLAN, (WORKER, [datetime.now(UTC)])),
    "delete_attempts": (CUSTOM_PLAN, (WORKER, [datetime.now(UTC)])),
    "delete_logs": (CUSTOM_PLAN, (WORKER, [datetime.now(UTC)])),
    "discard": (CUSTOM_PLAN, ([WORKER], [datetime.now(UTC)])),
    "doctor_archive": ({}, ()),
    "doctor_overdue": ({}, (NO_TIME,)),
    "doctor_partitions": ({}, (1,)),
    "drop_day": ({}, ("finished_job", TODAY - timedelta(days=5))),
    "due_days": (CONTROL, ()),
    "due_results": (CUSTOM_PLAN, ("old", timedelta(days=365))),
    "empty_days": (CONTROL, ()),
    "end_overdue": (CONTROL, (100,)),
    "fail": (CONTROL, (*OUTCOME, ["failed"], *ERROR)),
    "find_finished": (CUSTOM_PLAN, (*FAILED, 100, NO_TIME, UUID(int=0), datetime.now(UTC), *WINDOW)),
    "find_traces": (CUSTOM_PLAN, (WORKER,)),
    "follow_up_many": ({}, (["default"], uuid7(), uuid7(), 1000)),
    "forget_progress": (CONTROL, (UUID(int=0), 100)),
    "get_job": ({}, (WORKER,)),
    "group_dead_letters": (BY_ID, (*FAILED, None, NO_TIME, [], *WINDOW)),
    "keep_log": (CONTROL, (WORKER, 1, 0.1, "[]")),
    "list_archive_days": ({}, ()),
    "list_attempts": ({}, (WORKER,)),
    "list_finished": (BY_ID, (*FAILED, 50, NO_TIME, True, *WINDOW)),
    "list_finished_of": ({}, ([WORKER],)),
    "list_jobs": (BY_ID, (*FAILED, 50, NO_TIME, True, *WINDOW, False)),
    "list_logs": ({}, (WORKER,)),
    "list_recorded": (CONTROL, (WORKER, [WORKER], [1], EVER)),
    "list_tasks_of": ({}, ([WORKER],)),
    "list_ticks": ({}, ("s", 100)),
    "lock_archive": (CUSTOM_PLAN, WINDOW),
    "lock_finished": (CUSTOM_PLAN, ([WORKER], [datetime.now(UTC)])),
    "missing_partitions": (CONTROL, (1,)),
    "remove_results": (CUSTOM_PLAN, ("old", *WINDOW, 100)),
    "rescue": (CONTROL, (3, 100, True)),
    "retain_day": (CONTROL, ("finished_job", TODAY - timedelta(days=5))),
    "retain_default": ({}, ("finished_job", 100)),
    "retry": (CUSTOM_PLAN, ([WORKER], None, None, [datetime.now(UTC)])),
    "succeed": (CONTROL, (*OUTCOME[:3], ["{}"], [0.1])),
    "until": ({}, ()),
}
"""The statements over the archive: the settings under which they run, and parameters."""

AUDITS: Final = {
    "audit_archive",
    "audit_attempts",
    "audit_progress",
    "audit_schedules",
    "audit_span",
    "audit_statistics",
    "audit_ticks",
}
"""An audit of everything reads everything, and says so; one of the last days is looked at above."""

OVER_THE_ARCHIVE: Final = re.compile(
    r"rowlock\.(finished_job|attempt|attempt_log|jobs|archive_day|find_job|attempts_of|logs_of|finished_among|finished_between|recorded_among"
    r"|archive_windows|last_end_to_come|lock_archive|drop_day|retain_\w+|past_retention|must_be_removed|create_partitions?"
    r"|missing_partitions)\b"
)


def test_every_statement_over_the_archive_is_among_those_whose_locks_are_counted() -> None:
    texts = {name: re.sub(r"--.*", "", statement(name, "rowlock")) for name in NAMES}
    over = {name for name, text in texts.items() if OVER_THE_ARCHIVE.search(text)}
    assert over - {"archive_windows"} == STATEMENTS.keys() | AUDITS


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statement_locks_a_bounded_number_of_partitions(name: str, connection: Connection) -> None:
    settings, parameters = STATEMENTS[name]
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts, result_ttl) "
        "VALUES ('old', 'default', 5, 1, '1 hour') ON CONFLICT DO NOTHING"
    )
    await connection.execute(
        "INSERT INTO rowlock.progress (job_id, attempt, updated_at) VALUES ($1, 1, '2000-01-01')",
        uuid7(),
    )
    transaction = connection.transaction()
    await transaction.start()
    for setting, value in settings.items():
        await connection.execute(f"SET LOCAL {setting} = {value}")
    await connection.fetch(statement(name, "rowlock"), *parameters)
    assert await connection.fetchval(COUNT_LOCKS) <= MOST_LOCKS
    await transaction.rollback()


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


async def test_a_job_that_is_given_again_years_later_locks_a_bounded_number_of_partitions(
    url: str, connection: Connection, locks: list[int]
) -> None:
    job = UUID(int=(int((datetime.now(UTC) - timedelta(days=OLD)).timestamp() * 1000) << 80) | 7 << 76 | 2 << 62)
    await put(connection, OLD, job)
    async with Rowlock(url) as app:
        new = msgspec.structs.replace(app.task(name="again")(_nothing).job(), id=job)
        await app.enqueue_many([new])
        async with connection.transaction():
            await app.enqueue_many([new], connection=connection)
            assert await connection.fetchval(COUNT_LOCKS) <= MOST_LOCKS
    assert max(locks) <= MOST_LOCKS
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 0


async def _nothing() -> None: ...


async def test_pages_go_back_through_all_days(url: str) -> None:
    async with Rowlock(url) as app:
        seen, page = list[UUID](), await app.jobs.list(limit=3)
        while True:
            seen += [job.id for job in page]
            if page.following is None:
                break
            page = await app.jobs.list(limit=3, before=page.following)
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


async def test_results_are_removed_window_by_window(connection: Connection) -> None:
    job = uuid7()
    await put(connection, OLD, job, task="brief", result="1")
    await connection.execute(
        "INSERT INTO rowlock.task (name, queue, priority, max_attempts, result_ttl, results_removed_until) "
        "VALUES ('brief', 'default', 5, 1, '1 hour', now() - interval '2000 days')"
    )
    removed, is_last, steps = 0, False, 0
    while not is_last:
        async with connection.transaction():
            await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
            (due,) = await connection.fetch(statement("due_results", "rowlock"), "brief", timedelta(days=5000))
            removed += await connection.fetchval(
                statement("remove_results", "rowlock"), "brief", due["since"], due["until"], 100
            )
            assert await connection.fetchval(COUNT_LOCKS) <= MOST_LOCKS
        is_last, steps = due["is_last"], steps + 1
    assert removed == 1
    assert steps == len(await connection.fetch(statement("archive_windows", "rowlock")))


async def test_jobs_and_attempts_are_found_in_whatever_window_they_are(connection: Connection) -> None:
    jobs = [uuid7() for _ in range(3)]
    for ago, job in zip((0, OLD, 5000), jobs, strict=True):
        await put(connection, ago, job, state="succeeded" if ago == OLD else "failed")
    told = uuid7()
    await connection.execute(
        "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, worker, started_at, finished_at) "
        "VALUES ($1, 1, 'error', 'default', 'old', $2, now(), now() - interval '1 day' * $3)",
        told,
        jobs[1],
        OLD,
    )
    nobody = uuid7()
    finished = await connection.fetch(statement("list_finished_of", "rowlock"), [*jobs, nobody])
    assert {row["id"] for row in finished} == set(jobs)
    asked = [jobs[1], jobs[0], told, nobody], [1, 1, 1, 1]
    recorded = await connection.fetch(statement("list_recorded", "rowlock"), jobs[1], *asked, EVER)
    assert {row["id"] for row in recorded} == {jobs[1], told}
    later = datetime.now(UTC) - timedelta(days=OLD - 2)
    assert await connection.fetch(statement("list_recorded", "rowlock"), jobs[1], *asked, later) == []
    other = [jobs[1], told], [2, 2]
    assert await connection.fetch(statement("list_recorded", "rowlock"), jobs[1], *other, EVER) == []
