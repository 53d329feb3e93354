"""Retention: what is past its time goes, day by day, and nothing else ever does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import JobFilter, JobNotFound, Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.operate.retention import OUTCOMES
from rowlock.worker.duties.retention import RetentionDuty
from tests.db.commands import rowlock
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
async def now(connection: Connection) -> datetime:
    moment: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return moment


@pytest.fixture
async def other(direct_url: str) -> AsyncIterator[Connection]:
    """A second connection: somebody else."""
    opened = await asyncpg.connect(direct_url)
    yield opened
    opened.terminate()


def noon(now: datetime, days: int) -> datetime:
    return datetime.combine(now.astimezone(UTC).date() - timedelta(days=days), time(12), UTC)


def end_of(moment: datetime) -> datetime:
    return datetime.combine(moment.date() + DAY, time(0), UTC)


async def put(
    connection: Connection, at: datetime, state: str = "succeeded", queue: str = "default", *, attempts: int = 0
) -> UUID:
    """A job that ended then, in the partition of its day, with the attempts that came before."""
    job = uuid7()
    for archive in ("finished_job", "attempt"):
        await connection.execute("SELECT rowlock.create_partition($1, $2)", archive, at.date())
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) VALUES ($1, 'old', $2, 1, 0, $3, $3, $3, 10, 1, 5, $4, '{}')",
        job,
        state,
        at,
        queue,
    )
    for attempt in range(1, attempts + 1):
        await put_attempt(connection, job, attempt, at)
    return job


async def put_attempt(connection: Connection, job: UUID, attempt: int, at: datetime) -> None:
    await connection.execute("SELECT rowlock.create_partition('attempt', $1)", at.date())
    await connection.execute(
        "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
        "VALUES ($1, $2, 'error', 'default', 'old', $3)",
        job,
        attempt,
        at,
    )


async def finished(connection: Connection) -> set[UUID]:
    return {row["id"] for row in await connection.fetch("SELECT id FROM rowlock.finished_job")}


async def attempts_of(connection: Connection, job: UUID) -> int:
    count: int = await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE job_id = $1", job)
    return count


async def days(connection: Connection, archive: str = "finished_job") -> set[Any]:
    rows = await connection.fetch("SELECT day FROM rowlock.archive_day WHERE archive = $1", archive)
    return {row["day"] for row in rows}


async def remove(app: Rowlock) -> None:
    """Do what the duty does."""
    control = ControlConnection(app.settings, await app.database.dsn(), purpose="upkeep")
    try:
        await RetentionDuty(control, app.database).remove()
    finally:
        await control.close()


async def waits(connection: Connection, part: str) -> bool:
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        "AND query LIKE $1 AND pid <> pg_backend_pid())",
        f"%{part}%",
    )
    return found


async def test_everything_is_kept_unless_something_is_said(app: Rowlock, connection: Connection, now: datetime) -> None:
    jobs = {await put(connection, noon(now, 4000), state) for state in OUTCOMES}
    await remove(app)
    assert await finished(connection) == jobs


async def test_each_outcome_of_each_queue_is_kept_for_its_own_time(
    app: Rowlock, connection: Connection, now: datetime
) -> None:
    said: dict[str, dict[str, Any]] = {
        "*": {"succeeded": 2 * DAY, "cancelled": HOUR, "expired": 4 * DAY},
        "email": {"succeeded": 5 * DAY, "failed": 3 * DAY, "cancelled": "default"},
        "reports": {"succeeded": HOUR, "expired": "forever"},
    }
    for queue, kept in said.items():
        await app.retention.keep(queue, **kept)
    expected = set()
    for age in range(8):
        for state in OUTCOMES:
            for queue in ("default", "email", "reports"):
                job = await put(connection, noon(now, age), state, queue)
                time_to_live = said.get(queue, {}).get(state, "default")
                if time_to_live == "default":
                    time_to_live = said["*"].get(state, "forever")
                if time_to_live == "forever" or end_of(noon(now, age)) + time_to_live > now:
                    expected.add(job)
    assert len(expected) < 96
    await remove(app)
    assert await finished(connection) == expected


async def test_a_day_of_which_nothing_is_kept_is_dropped(app: Rowlock, connection: Connection, now: datetime) -> None:
    job = await put(connection, noon(now, 3), attempts=2)
    await put(connection, noon(now, 2))
    await app.retention.keep("*", succeeded=2 * DAY, failed=2 * DAY, cancelled=2 * DAY, expired=2 * DAY)
    before = await days(connection)
    await remove(app)
    assert await days(connection) == before - {noon(now, 3).date()}
    with pytest.raises(JobNotFound, match="retention"):
        await app.get(job)
    assert await app.database.run("due_days") == []


async def test_nothing_goes_a_minute_before_its_time(app: Rowlock, connection: Connection, now: datetime) -> None:
    at = end_of(noon(now, 3)) - timedelta(microseconds=1)
    job = await put(connection, at)
    until_now = now - end_of(at)
    await app.retention.keep("*", succeeded=until_now + timedelta(minutes=1))
    await remove(app)
    assert await finished(connection) == {job}
    await app.retention.keep("*", succeeded=until_now - timedelta(seconds=1))
    await remove(app)
    assert await finished(connection) == set()


async def test_a_live_job_is_never_touched_and_neither_are_its_attempts(
    app: Rowlock, connection: Connection, now: datetime
) -> None:
    job = await put(connection, noon(now, 40), "failed", attempts=3)
    gone = await put(connection, noon(now, 40), "failed", attempts=3)
    await app.jobs.retry(job)
    await connection.execute("UPDATE rowlock.job SET created_at = now() - interval '1 year' WHERE id = $1", job)
    await app.retention.keep("*", succeeded=HOUR, failed=HOUR, cancelled=HOUR, expired=HOUR)
    await remove(app)
    assert (await app.get(job)).state == "queued"
    assert await attempts_of(connection, job) == 3
    assert await attempts_of(connection, gone) == 0


async def test_attempts_stay_as_long_as_their_job(app: Rowlock, connection: Connection, now: datetime) -> None:
    """One that was retried for weeks among them."""
    patient = await put(connection, noon(now, 2))
    for attempt, age in enumerate((30, 20, 2), start=1):
        await put_attempt(connection, patient, attempt, noon(now, age))
    quick = await put(connection, noon(now, 30), attempts=1)
    dead = await put(connection, noon(now, 20), "failed", attempts=1)
    await app.retention.keep("*", succeeded=10 * DAY, failed=60 * DAY)
    await remove(app)
    assert await finished(connection) == {patient, dead}
    assert [await attempts_of(connection, job) for job in (patient, quick, dead)] == [3, 0, 1]
    await app.retention.keep("*", succeeded=HOUR, failed=HOUR, cancelled=HOUR, expired=HOUR)
    await remove(app)
    assert await finished(connection) == set()
    assert [await attempts_of(connection, job) for job in (quick, dead)] == [0, 0]
    assert await attempts_of(connection, patient) <= 1, "that of the last day goes a day later"
    assert await days(connection, "attempt") & {noon(now, age).date() for age in (30, 20)} == set()


async def test_a_day_is_rewritten_once_for_each_thing_that_passes(
    app: Rowlock, connection: Connection, now: datetime
) -> None:
    name = f"rowlock.finished_job_{noon(now, 9):%Y%m%d}"

    async def file() -> int:
        node: int = await connection.fetchval("SELECT pg_relation_filenode($1::text::regclass)", name)
        return node

    for state in OUTCOMES:
        await put(connection, noon(now, 9), state)
    await app.retention.keep("*", succeeded=5 * DAY)
    first = await file()
    await remove(app)
    second = await file()
    assert second != first
    await app.retention.keep("other", succeeded=6 * DAY)  # has passed as well: nothing more is to go
    await app.retention.keep("*", failed=10 * DAY)
    await remove(app)
    assert await file() == second
    await app.retention.keep("*", failed=5 * DAY)
    await remove(app)
    assert await file() != second
    listed = await connection.fetchval("SELECT removed FROM rowlock.archive_day WHERE day = $1", noon(now, 9).date())
    assert listed == "removed: failed; succeeded"


async def test_a_job_that_comes_late_into_an_emptied_day_goes_too(
    app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    await put(connection, noon(now, 3))
    await app.retention.keep("*", succeeded=HOUR, failed=HOUR, cancelled=HOUR, expired=HOUR)
    async with other.transaction():
        await other.execute("LOCK TABLE ONLY rowlock.finished_job IN ACCESS SHARE MODE")  # a reader elsewhere
        await remove(app)
        assert noon(now, 3).date() in await days(connection), "emptied, but not dropped yet"
        assert await finished(connection) == set()
    await put(connection, noon(now, 3))
    await remove(app)
    assert await finished(connection) == set()
    assert noon(now, 3).date() not in await days(connection)


# Others at the same time.


async def test_behind_a_reader_retention_gives_up_and_finishes_go_on(
    app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    @app.task
    async def work() -> None: ...

    job = await put(connection, noon(now, 3))
    kept = await put(connection, noon(now, 3), "failed")
    await app.retention.keep("*", succeeded=DAY)
    async with other.transaction():
        await other.fetch("SELECT count(*) FROM rowlock.finished_job")  # a report, a backup
        removing = asyncio.create_task(remove(app))
        await eventually(lambda: waits(connection, "retain_day"))
        handle = await work.enqueue()
        await app.worker().drain()
        assert (
            await connection.fetchval("SELECT state FROM rowlock.finished_job WHERE id = $1", handle.id)
        ) is not None
        await removing
        assert {job, kept} <= await finished(connection)
    await remove(app)
    assert await finished(connection) == {kept, handle.id}


@pytest.mark.parametrize("state", ["failed", "cancelled"], ids=["kept", "past its time"])
async def test_a_retry_that_was_first_wins(
    state: str, app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    await put(connection, noon(now, 3))
    job = await put(connection, noon(now, 3), state)
    await app.retention.keep("*", succeeded=DAY, cancelled=DAY)
    async with other.transaction():
        (row,) = await other.fetch("SELECT finished_at FROM rowlock.finished_job WHERE id = $1", job)
        await other.fetch(statement("lock_finished", "rowlock"), [job], [row[0]])
        await other.fetch(statement("retry", "rowlock"), [job], None, None, [row[0]])
        await remove(app)
    await remove(app)
    assert await finished(connection) == set()
    assert (await app.get(job)).state == "queued"


@pytest.mark.parametrize("verb", ["retry", "retry_many", "discard"])
async def test_who_comes_second_finds_what_was_kept(
    verb: str, app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    job = await put(connection, noon(now, 3), "failed")
    past = await put(connection, noon(now, 3), "succeeded")
    await app.retention.keep("*", succeeded=DAY)
    acts: dict[str, Any] = {
        "retry": lambda: app.jobs.retry(job),
        "retry_many": lambda: app.jobs.retry_many(JobFilter(task="old")),
        "discard": lambda: app.jobs.discard(job),
    }
    async with other.transaction(isolation="read_committed"):
        done = await other.fetch(statement("retain_day", "rowlock"), "finished_job", noon(now, 3).date())
        assert [tuple(row) for row in done] == [("rewritten", 1)]
        act = asyncio.create_task(acts[verb]())
        await eventually(lambda: waits(connection, "finished_job"))
    await act
    after = await app.get(job)
    assert (after.state, after.discarded_at is not None) == (
        ("failed", True) if verb == "discard" else ("queued", False)
    )
    assert past not in await finished(connection)


async def test_who_waits_for_the_copy_keeps_nothing_that_the_copy_waits_for(
    app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    job = await put(connection, noon(now, 3), "failed")
    day = f"rowlock.finished_job_{noon(now, 3):%Y%m%d}"
    async with other.transaction():
        await other.execute(f"LOCK TABLE {day} IN EXCLUSIVE MODE")  # as retention does, while it copies
        act = asyncio.create_task(app.jobs.retry_many(JobFilter(task="old")))
        await eventually(lambda: waits(connection, "finished_job"))
        await other.execute(f"SET LOCAL lock_timeout = '500ms'; TRUNCATE {day}")
    await act
    with pytest.raises(JobNotFound):
        await app.get(job)


async def test_what_was_finished_while_it_waited_is_not_lost_whatever_the_default_isolation(
    app: Rowlock, connection: Connection, other: Connection, now: datetime
) -> None:
    name = await connection.fetchval("SELECT current_database()")
    await put(connection, noon(now, 3))
    await app.retention.keep("*", succeeded=DAY)
    await connection.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    await app.database.close()
    async with other.transaction():
        late = await put(other, noon(now, 3), "failed")
        removing = asyncio.create_task(remove(app))
        await eventually(lambda: waits(connection, "retain_day"))
    await removing
    assert await finished(connection) == {late}
    with pytest.raises(asyncpg.RaiseError, match="READ COMMITTED"):
        async with other.transaction(isolation="repeatable_read"):
            await other.fetch("SELECT rowlock.retain_day('finished_job', $1)", noon(now, 3).date())


async def test_a_day_that_cannot_be_done_does_not_keep_the_others(
    app: Rowlock, connection: Connection, now: datetime
) -> None:
    for age in (3, 2):
        await put(connection, noon(now, age))
    kept = {await put(connection, noon(now, age), "failed") for age in (3, 2)}
    in_the_way = f"rowlock.finished_job_{noon(now, 3):%Y%m%d}_kept"
    await connection.execute(f"CREATE TABLE {in_the_way} ()")
    await app.retention.keep("*", succeeded=HOUR)
    await remove(app)
    assert len(await finished(connection)) == len(kept) + 1
    await connection.execute(f"DROP TABLE {in_the_way}")
    await remove(app)
    assert await finished(connection) == kept


async def test_workers_do_it_within_seconds_of_being_told(app: Rowlock, connection: Connection, now: datetime) -> None:
    @app.task
    async def work() -> None: ...

    await put(connection, noon(now, 3))
    kept = await put(connection, noon(now, 3), "failed")

    async def is_done() -> bool:
        return await finished(connection) == {kept}

    async with app.worker():
        await app.retention.keep("*", succeeded=DAY)
        await eventually(is_done)


async def test_rows_of_the_default_partition_move_into_those_of_their_days(
    app: Rowlock, connection: Connection, now: datetime
) -> None:
    job, at = uuid7(), noon(now, 400)
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) "
        "VALUES ($1, 'old', 'failed', 1, 0, $2, $2, $2, 1, 1, 5, 'x', '{}')",
        job,
        at,
    )
    await connection.execute(
        "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
        "VALUES ($1, 1, 'error', 'default', 'old', $2)",
        job,
        at,
    )
    await connection.execute(
        "INSERT INTO rowlock.attempt_log (job_id, attempt, started_at, created_at, lines) VALUES ($1, 1, $2, $2, '[]')",
        job,
        at,
    )
    made = await connection.fetch("SELECT rowlock.create_partitions($1) AS made", 0)
    assert made[0]["made"] == 3
    for archive in ("finished_job", "attempt", "attempt_log"):
        assert await connection.fetchval(f"SELECT count(*) FROM rowlock.{archive}_default") == 0
        assert await connection.fetchval(f"SELECT count(*) FROM rowlock.{archive}_{at:%Y%m%d}") == 1
    assert (await app.get(job)).state == "failed"


async def test_a_day_with_too_many_rows_to_move_is_said_to_be_overdue_and_goes_from_the_default_partition(
    app: Rowlock, settings: Settings, connection: Connection, now: datetime
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
        "max_attempts, errors, priority, queue, args) "
        "SELECT rowlock.uuid7(), 'old', CASE n WHEN 1 THEN 'failed' ELSE 'succeeded' END, 1, 0, $1, $1, $1, 1, 0, 5, "
        "'x', '{}' FROM generate_series(1, 100002) AS n",
        noon(now, 40),
    )
    await connection.fetch("SELECT rowlock.create_partitions($1) AS made", 0)
    assert noon(now, 40).date() not in await days(connection), "too many to move"
    await app.retention.keep("*", succeeded=30 * DAY)
    await connection.execute("UPDATE rowlock.queue SET updated_at = now() - interval '1 day'")
    found = {finding.check: finding for finding in await examine(settings)}
    assert str(noon(now, 40).date()) in found["retention"].detail
    await remove(app)
    assert await connection.fetchval("SELECT array_agg(state) FROM rowlock.finished_job_default") == ["failed"]
    found = {finding.check: finding for finding in await examine(settings)}
    assert found["retention"].status == "ok", "what is kept is not overdue"
    await connection.fetch("SELECT rowlock.create_partitions($1) AS made", 0)
    assert noon(now, 40).date() in await days(connection), "few enough to move"


# What is said, and by whom.


async def test_what_is_said_is_shown_and_recorded(app: Rowlock, connection: Connection, now: datetime) -> None:
    await put(connection, noon(now, 3))
    await app.retention.keep("email", failed="forever", by="ada")
    await app.retention.keep("email", succeeded=7 * DAY, by="grace")
    all_of_them = await app.retention.keep("*", succeeded=86_400, failed=DAY, cancelled=DAY, expired=5 * DAY)
    assert all_of_them.succeeded == DAY
    shown = await app.retention.show()
    assert [(one.queue, one.succeeded, one.failed, one.expired) for one in shown.queues] == [
        ("*", DAY, DAY, 5 * DAY),
        ("email", 7 * DAY, "forever", None),
    ]
    oldest = shown.days[0]
    assert (oldest.day, oldest.gone_at) == (noon(now, 3).date(), None)
    assert oldest.bytes > 0
    assert oldest.next_at == end_of(noon(now, 3)) + 5 * DAY
    await app.retention.keep("email", failed="default")
    shown = await app.retention.show()
    assert shown.days[0].gone_at == end_of(noon(now, 3)) + 7 * DAY
    told = [
        (row.verb, row.target_kind, row.target, row.by, row.details) for row in await app.operations(target="email")
    ]
    assert told == [
        ("keep", "queue", "email", None, {"failed": "default"}),
        ("keep", "queue", "email", "grace", {"succeeded": 604_800.0}),
        ("keep", "queue", "email", "ada", {"failed": "forever"}),
    ]


async def test_the_command_line_says_and_shows(database_url: str, connection: Connection, now: datetime) -> None:
    await put(connection, noon(now, 3))
    done = await rowlock("retention", "keep", "email", "--failed", "90d", "--succeeded", "36h", url=database_url)
    assert done.out.split()[-5:] == ["email", "36h", "90d", "default", "default"]
    await rowlock("retention", "keep", "*", "--failed", "forever", "--json", url=database_url)
    shown = await rowlock("retention", "show", url=database_url)
    assert f"{noon(now, 3).date()}  " in shown.out
    as_json = json.loads((await rowlock("retention", "show", "--json", url=database_url)).out)
    assert as_json["queues"][0]["failed"] == "forever"
    assert await connection.fetchval("SELECT source FROM rowlock.operation WHERE verb = 'keep' LIMIT 1") == "cli"
