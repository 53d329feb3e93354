"""The audit: silent after any honest work, and exact about each invariant that somebody breaks by hand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Cancel, Fail, InvalidOption, Job, Retry, Rowlock, Settings, Snooze, Unique
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.read import audits
from rowlock.queue.read.audits import INVARIANTS, Audited, Scope, audit, days_back
from rowlock.queue.schedules.schedule import Schedule
from rowlock.worker.duties.statistics import StatisticsDuty
from tests.counting import count_alone
from tests.db.commands import assert_refused, rowlock
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


def application(settings: Settings) -> Rowlock:
    app = Rowlock(settings=settings)

    @app.task(backoff=0)
    async def work(job: Job, how: str) -> str:
        await job.save_checkpoint({"half": True})
        match how:
            case "retry" if job.attempt == 1:
                raise ValueError("not yet")
            case "fail":
                raise Fail("makes no sense")
            case "cancel":
                raise Cancel("nothing to do")
            case "snooze" if job.attempt == 1:
                raise Snooze(0)
        return how

    @app.task(schedule=Schedule("* * * * * *", name="each-second"))
    async def tick() -> None: ...

    return app


@pytest.fixture
async def app(settings: Settings, connection: Connection) -> Rowlock:
    """An application whose jobs have gone through everything."""
    app = application(settings)
    work = app.tasks["work"]
    for how in ("succeed", "retry", "fail", "cancel", "snooze"):
        await work.enqueue(how)
    for until in ("finish", "start"):
        for _ in range(2):
            await work.using(unique=Unique(until, until=until)).enqueue("retry")
    await work.using(unique=Unique("period", period=3600)).enqueue("succeed")
    await work.using(expires=3600, deadline=7200).enqueue("retry")
    await work.using(delay=3600, expires=7200).enqueue("succeed")
    await work.using(delay=3600, unique=Unique("waits")).enqueue("succeed")
    waiting = await work.using(delay=3600, unique=Unique("cancelled")).enqueue("succeed")
    await app.cancel(waiting.id)
    await app.retry(waiting.id)
    ends = await work.using(expires=0.05).enqueue("succeed")
    is_late = "SELECT expires_at <= now() FROM rowlock.job WHERE id = $1"
    await eventually(lambda: connection.fetchval(is_late, ends.id))  # before there is a worker that could start it
    async with app.worker():
        await eventually(lambda: _is_over(app, ends.id), timeout=30)
        await eventually(lambda: _has_ticked(app), timeout=30)
        dead = await work.enqueue("fail")
        await eventually(lambda: _is_over(app, dead.id), timeout=30)
        await app.retry(dead.id)
        await eventually(lambda: _is_over(app, dead.id), timeout=30)
    return app


async def _is_over(app: Rowlock, job: object) -> bool:
    return (await app.get(str(job))).is_finished


async def _has_ticked(app: Rowlock) -> bool:
    return bool(await app.schedules.ticks("each-second"))


async def broken(database: Database, scope: Scope | None = None) -> dict[str, Audited]:
    return {one.invariant: one for one in await audit(database, scope) if one.status == "broken"}


async def test_what_went_through_everything_is_as_it_must_be(app: Rowlock, connection: Connection) -> None:
    found = {one.invariant: one for one in await audit(app.database)}
    assert [one for one in found.values() if one.status not in {"kept", "empty"}] == []
    assert set(found) == {name for names in INVARIANTS.values() for name in names}
    for name in ("job in both tables", "attempt of no job", "unique key without its job", "tick without its job"):
        assert found[name].looked_at > 0, name
    assert found["job in both tables"].looked_at == await connection.fetchval(
        "SELECT count(*) FROM rowlock.finished_job"
    )
    assert found["two live jobs with one key"].looked_at == 1
    assert found["failed job without its last attempt"].looked_at == 2
    assert found["schedule left behind"].looked_at == found["schedule whose last job is nowhere"].looked_at == 1
    await app.close()


async def test_what_runs_is_as_it_must_be(settings: Settings) -> None:
    app = application(settings)
    begun: list[Job] = []

    @app.task
    async def endless(job: Job) -> None:
        begun.append(job)
        await eventually(lambda: len(begun) < 0, timeout=60)

    async with app, app.worker():
        await endless.using(unique=Unique("start", until="start")).enqueue()
        await endless.using(deadline=3600, expires=60).enqueue()
        await eventually(lambda: len(begun) == 2)
        found = {one.invariant: one for one in await audit(app.database)}
        assert found["running job without a lease"].looked_at >= 2  # and perhaps a tick
        assert {one.status for one in found.values()} <= {"kept", "empty"}
        for job in begun:
            await app.cancel(job.id)
        assert await broken(app.database) == {}


WORKER = "00000000-0000-7000-8000-0000000000aa"
OTHER = "00000000-0000-7000-8000-0000000000bb"
ARCHIVED = (
    "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, started_at, finished_at, "
    "max_attempts, errors, priority, queue, args, worker) SELECT id, 'work', 'succeeded', 1, 0, run_at, created_at, "
    "created_at, {at}, 10, 0, 5, 'default', '{{}}', '" + WORKER + "' FROM rowlock.{source} LIMIT 1"
)
REGISTERED = (
    "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, started_at, expires_at) "
    "VALUES ('{id}', 'here', 1, '1', '{{default}}', '{{work}}', 1, now() - interval '{age}', now() + interval '{left}')"
)
RUNNING = (
    "UPDATE rowlock.job SET state = 'running', attempt = 1, worker = '{worker}', started_at = now() - interval '{age}' "
    "WHERE id = (SELECT id FROM rowlock.job WHERE unique_key IS NULL LIMIT 1)"
)
RECORDED = (
    "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
    "SELECT {job}, {attempt}, 'error', 'default', 'work', {at}"
)
A_FINISHED_ONE = "(SELECT id FROM rowlock.finished_job WHERE state = 'succeeded' LIMIT 1)"
A_WAITING_ONE = "(SELECT id FROM rowlock.job WHERE unique_key IS NULL LIMIT 1)"
STARTED = f"UPDATE rowlock.job SET state = 'running', attempt = 1, worker = '{OTHER}', started_at = now()"
WAITS = "state = 'queued', worker = NULL, started_at = NULL"
KEYED = "'work:waits'"
HELD = f"UPDATE rowlock.job SET run_at = created_at WHERE unique_key = {KEYED}"
SECOND = (
    "INSERT INTO rowlock.job (id, task, state, attempt, unique_key, worker, started_at) "
    f"SELECT rowlock.uuid7(), 'work', '{{state}}', {{attempt}}, {KEYED}, {{worker}}, "
    "CASE '{state}' WHEN 'running' THEN now() END"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """How somebody breaks an invariant by hand."""

    invariant: str
    statements: tuple[str, ...]
    word: str


def by(invariant: str, *statements: str, word: str) -> Break:
    return Break(invariant=invariant, statements=statements, word=word)


BREAKS = [
    by("job in both tables", ARCHIVED.format(source="job", at="now()"), word="queued"),
    by("job archived twice", ARCHIVED.format(source="finished_job", at="now()"), word="2 rows"),
    by(
        "job archived twice",
        "SELECT rowlock.create_partition('finished_job', (now() - interval '1 day')::date)",
        ARCHIVED.format(source="finished_job", at="now() - interval '1 day'"),
        "UPDATE rowlock.finished_job SET created_at = now() - interval '2 days', started_at = created_at",
        word="2 rows",
    ),
    by(
        "finished job whose columns disagree",
        f"UPDATE rowlock.finished_job SET worker = NULL WHERE id = {A_FINISHED_ONE}",
        word="worker",
    ),
    by(
        "finished job whose columns disagree",
        f"UPDATE rowlock.finished_job SET errors = 2 WHERE id = {A_FINISHED_ONE}",
        word="2 errors",
    ),
    by(
        "finished job whose columns disagree",
        f"UPDATE rowlock.finished_job SET discarded_at = now() WHERE id = {A_FINISHED_ONE}",
        word="discarded",
    ),
    by(
        "finished job whose columns disagree",
        f"UPDATE rowlock.finished_job SET started_at = now() + interval '1 hour' WHERE id = {A_FINISHED_ONE}",
        word="before",
    ),
    by(
        "finished job from the future",
        f"UPDATE rowlock.finished_job SET finished_at = now() + interval '2 hours' WHERE id = {A_FINISHED_ONE}",
        word="written at",
    ),
    by(
        "live job whose columns disagree",
        "ALTER TABLE rowlock.job DROP CONSTRAINT job_is_readable; UPDATE rowlock.job SET run_at = 'infinity'",
        word="run_at infinity",
    ),
    by("live job whose columns disagree", "UPDATE rowlock.job SET started_at = now()", word="queued with started_at"),
    by("live job whose columns disagree", "UPDATE rowlock.job SET crashes = 9", word="9 crashes"),
    by("live job whose columns disagree", "UPDATE rowlock.job SET ends_at = now()", word="ends_at"),
    by("live job whose columns disagree", "UPDATE rowlock.job SET ends_at = NULL", word="ends_at"),
    by(
        "live job whose columns disagree",
        "UPDATE rowlock.job SET cancel_requested_at = now()",
        word="although a cancel was requested",
    ),
    by(
        "live job whose columns disagree",
        RUNNING.format(worker=WORKER, age="0"),
        "UPDATE rowlock.job SET attempt = 0",
        word="running with attempt 0",
    ),
    by("live job from the future", "UPDATE rowlock.job SET created_at = now() + interval '1 hour'", word="written at"),
    by(
        "live job whose columns disagree",
        "UPDATE rowlock.job SET errors = 10, attempt = 10",
        word="10 errors, of at most",
    ),
    by(
        "two live jobs with one key",
        HELD,
        SECOND.format(state="queued", attempt=0, worker="NULL"),
        word="(queued), created",
    ),
    by(
        "two live jobs with one key",
        HELD,
        SECOND.format(state="queued", attempt=3, worker="NULL"),
        word="(queued), created",
    ),
    by(
        "two live jobs with one key",
        HELD,
        SECOND.format(state="running", attempt=1, worker=f"'{WORKER}'"),
        word="(running), created",
    ),
    by(
        "two live jobs with one key",
        HELD,
        SECOND.format(state="queued", attempt=0, worker="NULL"),
        f"UPDATE rowlock.job SET state = 'running', attempt = 1, worker = '{WORKER}', started_at = now() "
        f"WHERE id = (SELECT job_id FROM rowlock.unique_key WHERE key = {KEYED})",
        word="(running) has held",
    ),
    by(
        "waiting job whose time is over",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        f"UPDATE rowlock.job SET expires_at = now() - interval '20 minutes', ends_at = now() - interval '20 minutes', "
        f"created_at = now() - interval '1 hour' WHERE id = {A_WAITING_ONE}",
        word="is queued, and was over",
    ),
    by(
        "waiting job whose time is over",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        "UPDATE rowlock.job SET cancel_requested_at = now() - interval '20 minutes', ends_at = '-infinity', "
        "attempt = 1, run_at = now() - interval '20 minutes', created_at = now() - interval '1 hour'",
        word="is queued, and was over",
    ),
    by(
        "schedule left behind",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        "UPDATE rowlock.worker SET tasks = '{tick@2}'",
        "UPDATE rowlock.schedule "
        "SET next_run_at = now() - interval '20 minutes', updated_at = now() - interval '1 hour'",
        word="each-second was due",
    ),
    by(
        "schedule whose last job is nowhere",
        "UPDATE rowlock.schedule SET last_job_id = gen_random_uuid()",
        word="the last job of each-second",
    ),
    by(
        "idempotency key past its time",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        "INSERT INTO rowlock.idempotency_key (key_hash, fingerprint, expires_at) "
        "VALUES ('\\x01', '\\x02', now() - interval '20 minutes')",
        word="key 01… was over",
    ),
    by(
        "finished job whose columns disagree",
        "UPDATE rowlock.finished_job SET started_at = created_at WHERE state = 'expired'",
        word="expired with worker",
    ),
    by(
        "finished job whose columns disagree",
        "UPDATE rowlock.finished_job SET errors = 0 WHERE state = 'failed'",
        word="failed with 0 errors",
    ),
    by(
        "finished job whose columns disagree",
        "UPDATE rowlock.finished_job SET worker = NULL WHERE state = 'failed'",
        word="without a worker or a passed deadline: Fail: makes no sense",
    ),
    by(
        "failed job without its last attempt",
        "DELETE FROM rowlock.attempt WHERE outcome = 'failed'",
        word="which is recorded nowhere",
    ),
    by(
        "attempt that its job contradicts",
        RECORDED.format(job=A_FINISHED_ONE, attempt=1, at="now()"),
        word="its job succeeded by it",
    ),
    by(
        "attempt that its job contradicts",
        RUNNING.format(worker=WORKER, age="0"),
        RECORDED.format(job="(SELECT id FROM rowlock.job WHERE state = 'running')", attempt=1, at="now()"),
        word="its job still runs it",
    ),
    by(
        "attempt that its job contradicts",
        f"UPDATE rowlock.attempt SET worker = '{OTHER}' WHERE outcome = 'failed'",
        word="and its job ended on",
    ),
    by(
        "attempt that its job contradicts",
        "UPDATE rowlock.attempt SET task = 'another' WHERE outcome = 'failed'",
        word="of another, and its job is of work",
    ),
    by(
        "running job without a lease",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        word="has no row",
    ),
    by(
        "running job without a lease",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        REGISTERED.format(id=WORKER, age="1 hour", left="-20 minutes"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        word="ran out",
    ),
    by(
        "running job that its worker cannot have claimed",
        REGISTERED.format(id=WORKER, age="1 minute", left="1 hour"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        word="which started at",
    ),
    by(
        "running job that its worker cannot have claimed",
        REGISTERED.format(id=WORKER, age="1 hour", left="1 hour"),
        RUNNING.format(worker=WORKER, age="0"),
        "UPDATE rowlock.job SET args_version = 2 WHERE state = 'running'",
        word="does not know it",
    ),
    by(
        "unique key without its job",
        f"INSERT INTO rowlock.unique_key (key, job_id) SELECT 'work:lost', {A_FINISHED_ONE}",
        word="not live",
    ),
    by(
        "unique key without its job",
        f"INSERT INTO rowlock.unique_key (key, job_id) SELECT 'work:lost', {A_WAITING_ONE}",
        word="whose key is null",
    ),
    by(
        "unique key past its time",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        "UPDATE rowlock.unique_key SET expires_at = now() - interval '20 minutes' WHERE expires_at IS NOT NULL",
        word="ended at",
    ),
    by("attempt of no job", RECORDED.format(job="gen_random_uuid()", attempt=1, at="now()"), word="nowhere"),
    by("attempt above its job's", RECORDED.format(job=A_FINISHED_ONE, attempt=9, at="now()"), word="whose last one is"),
    by(
        "attempt recorded twice",
        "INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at) "
        "SELECT job_id, attempt, 'error', 'default', 'work', now() FROM rowlock.attempt LIMIT 1",
        word="2 rows",
    ),
    by(
        "attempt from the future",
        RECORDED.format(job=A_FINISHED_ONE, attempt=1, at="now() + interval '2 hours'"),
        word="ended at",
    ),
    by("progress of no job", "UPDATE rowlock.progress SET job_id = gen_random_uuid()", word="nowhere"),
    by("progress above its job's", "UPDATE rowlock.progress SET attempt = 9", word="whose last one is"),
    by("tick without its job", "UPDATE rowlock.schedule_tick SET job_id = gen_random_uuid()", word="nowhere"),
    by(
        "job of two ticks",
        "INSERT INTO rowlock.schedule_tick (schedule, tick_at, job_id) "
        "SELECT schedule, tick_at - interval '1 hour', job_id FROM rowlock.schedule_tick LIMIT 1",
        word="2 ticks",
    ),
    by("tick from the future", "UPDATE rowlock.schedule_tick SET tick_at = tick_at + interval '1 hour'", word="fired"),
    by("duty too far ahead", "UPDATE rowlock.duty SET next_run_at = now() + interval '3 hours'", word="rescue"),
    by(
        "duty left undone",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        "UPDATE rowlock.duty SET next_run_at = now() - interval '20 minutes' WHERE name = 'rescue'",
        word="rescue",
    ),
    by(
        "expired worker left behind",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        REGISTERED.format(id=WORKER, age="1 hour", left="-20 minutes"),
        word="expired at",
    ),
    by("worker from the future", REGISTERED.format(id=OTHER, age="-1 hour", left="2 hours"), word="started at"),
    by(
        "slot of statistics that counts too few",
        "DELETE FROM rowlock.statistic",
        "UPDATE rowlock.finished_job SET run_at = run_at - interval '2 minutes', "
        "created_at = created_at - interval '2 minutes', started_at = started_at - interval '2 minutes', "
        "finished_at = finished_at - interval '2 minutes' WHERE state = 'succeeded'",
        "UPDATE rowlock.statistic_mark SET until = now()",
        word="count 0 ends",
    ),
    by(
        "statistics from the future",
        "UPDATE rowlock.statistic_mark SET until = now() + interval '1 hour'",
        word="until",
    ),
]


@pytest.mark.parametrize("case", BREAKS, ids=lambda case: f"{case.invariant}: {case.word}")
async def test_an_invariant_that_somebody_broke_is_named(case: Break, app: Rowlock, connection: Connection) -> None:
    for statement in case.statements:
        await connection.execute(statement)
    found = await broken(app.database)
    assert case.invariant in found
    assert any(case.word in example for example in found[case.invariant].examples), found[case.invariant].examples
    assert found[case.invariant].count <= found[case.invariant].looked_at
    await app.close()


def test_every_invariant_is_broken_by_a_test() -> None:
    assert {case.invariant for case in BREAKS} == {name for names in INVARIANTS.values() for name in names}


async def test_without_the_mark_of_the_statistics_they_are_not_said_to_be_kept(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute("DELETE FROM rowlock.statistic_mark")
    (found,) = [one for one in await audit(app.database) if one.invariant == "slot of statistics that counts too few"]
    assert found.status == "unknown"
    assert "mark is missing" in str(found.why_not)


async def test_what_was_counted_a_second_time_is_compared_with_the_archive(
    app: Rowlock, settings: Settings, direct_url: str, connection: Connection
) -> None:
    """Move everything back by five minutes, so that all of it is due for the second count."""
    await connection.execute("TRUNCATE rowlock.statistic")
    for archive in ("finished_job", "attempt"):
        await connection.execute(f"UPDATE rowlock.{archive} SET finished_at = finished_at - interval '5 minutes'")
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - interval '10 minutes'")
    control = ControlConnection(settings, direct_url, purpose="upkeep")
    await count_alone(connection, StatisticsDuty(control, app.database))
    name = "slot of statistics that counts too few"
    (found,) = [one for one in await audit(app.database) if one.invariant == name]
    assert (found.status, found.looked_at > 0) == ("kept", True)
    await connection.execute("UPDATE rowlock.statistic SET succeeded = succeeded - 1 WHERE step = 60 AND succeeded > 0")
    assert name in await broken(app.database)
    await control.close()
    await app.close()


async def test_what_retention_removes_leaves_nothing_broken(app: Rowlock, connection: Connection) -> None:
    """Attempts, progress and ticks go later than their jobs: what is older than the rules is not held against them."""
    gone = "DELETE FROM rowlock.finished_job"
    await connection.execute("INSERT INTO rowlock.queue (name, keep_failed) VALUES ('*', '1 hour')")
    await connection.execute(gone)
    found = {one.invariant: one for one in await audit(app.database)}
    for name in ("attempt of no job", "progress of no job", "tick without its job"):
        assert (found[name].status, found[name].looked_at) == ("empty", 0)
    await connection.execute("UPDATE rowlock.queue SET updated_at = now() - interval '2 hours'")
    assert {"attempt of no job", "progress of no job", "tick without its job"} <= set(await broken(app.database))
    await app.close()


async def test_a_second_attempt_s_end_may_be_either_limit(settings: Settings, connection: Connection) -> None:
    app = application(settings)
    await app.tasks["work"].using(expires=3600, deadline=7200).enqueue("succeed")
    await connection.execute("UPDATE rowlock.job SET attempt = 1")  # as one that was released
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.job SET ends_at = deadline")
    assert await broken(app.database) == {}
    await app.close()


async def test_without_a_worker_nobody_is_late(app: Rowlock, connection: Connection) -> None:
    for statement in (
        REGISTERED.format(id=WORKER, age="1 hour", left="-20 minutes"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        "UPDATE rowlock.duty SET next_run_at = now() - interval '20 minutes'",
    ):
        await connection.execute(statement)
    assert await broken(app.database) == {}
    await connection.execute(REGISTERED.format(id=OTHER, age="1 minute", left="1 hour"))
    assert await broken(app.database) == {}, "one that has only just come has had no time"
    await connection.execute("UPDATE rowlock.worker SET started_at = now() - interval '1 hour'")
    assert set(await broken(app.database)) == {"running job without a lease", "duty left undone"}
    await app.close()


async def test_it_says_how_far_it_looked(app: Rowlock, connection: Connection) -> None:
    found = {one.invariant: one for one in await audit(app.database, Scope(days=1, rows=3, seconds=60))}
    assert (found["job in both tables"].status, found["job in both tables"].looked_at) == ("partly", 3)
    assert found["job in both tables"].since is None
    assert found["duty left undone"].status == "kept"
    found = {one.invariant: one for one in await audit(app.database, Scope(days=3))}
    now = await connection.fetchval("SELECT now()")
    assert found["job in both tables"].since is not None
    assert timedelta(days=3) <= now - found["job in both tables"].since < timedelta(days=3, minutes=10)
    found = {one.invariant: one for one in await audit(app.database, Scope(days=None))}
    assert found["job in both tables"].since is not None
    assert found["job in both tables"].since.year == 1
    await app.close()


class Watched:
    """The audit's connection, which tells the locks that it holds after each statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.locks: set[tuple[str, str]] = set()
        self.settings: set[tuple[str, str]] = set()

    def transaction(self, **options: Any) -> Any:  # noqa: ANN401  # as asyncpg has it
        return self._connection.transaction(**options)

    async def fetch(self, sql: str, *parameters: object, timeout: float) -> list[asyncpg.Record]:
        rows = await self._connection.fetch(sql, *parameters, timeout=timeout)
        held = (
            "SELECT relation::regclass::text, mode FROM pg_locks WHERE pid = pg_backend_pid() AND relation IS NOT NULL"
        )
        self.locks |= {(row[0], row[1]) for row in await self._connection.fetch(held)}
        set_to = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
        self.settings |= {tuple(row) for row in await self._connection.fetch(set_to)}
        return rows


async def test_it_takes_no_locks_but_those_of_any_select(
    app: Rowlock, settings: Settings, connection: Connection
) -> None:
    watched = Watched(connection)

    class Watching(Database):
        @asynccontextmanager
        async def connection(self, _name: str = "") -> AsyncIterator[Any]:
            yield watched

    assert await broken(Watching(settings)) == {}
    assert {mode for _, mode in watched.locks} == {"AccessShareLock"}
    assert {"rowlock.job", "rowlock.worker", "rowlock.unique_key"} <= {relation for relation, _ in watched.locks}
    assert watched.settings == {("repeatable read", "on")}
    await app.close()


async def test_it_does_not_wait_for_long_for_a_lock(
    app: Rowlock, database_url: str, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "LOCK_TIMEOUT", "50ms")
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.unique_key IN ACCESS EXCLUSIVE MODE")
        found = {one.invariant: one for one in await audit(app.database)}
        assert found["unique key without its job"].status == "unknown"
        assert "somebody locked the table" in (found["unique key without its job"].why_not or "")
        assert found["job in both tables"].status == "kept", "it goes on with what is not locked"
        done = await rowlock("audit", "--seconds", "30", url=database_url)
        assert done.code == 2
        assert "Not everything was looked at" in done.err
    await app.close()


async def test_it_ends_when_its_time_is_over(
    app: Rowlock, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audits, "LOCK_TIMEOUT", "0")
    async with connection.transaction():
        await connection.execute("LOCK TABLE rowlock.worker IN ACCESS EXCLUSIVE MODE")
        found = {one.invariant: one for one in await audit(app.database, Scope(seconds=0.3))}
    assert {name for name, one in found.items() if one.status == "unknown"} == set(found), "the first one took it all"
    assert {one.why_not for one in found.values()} == {"there was no time left of 0.3 s"}
    await app.close()


async def test_the_command_says_what_is_broken(app: Rowlock, database_url: str, connection: Connection) -> None:
    done = await rowlock("audit", url=database_url)
    assert (done.code, done.err) == (0, ""), done.out
    await connection.execute("INSERT INTO rowlock.unique_key (key, job_id) VALUES ('work:\x1b[2J', gen_random_uuid())")
    done = await rowlock("audit", "--days", "1", url=database_url)
    assert done.code == 1
    assert "unique key without its job: key work:\\x1b[2J is held by job" in done.out
    told = {
        one["invariant"]: one for one in json.loads((await rowlock("audit", "--all", "--json", url=database_url)).out)
    }
    assert told["unique key without its job"]["status"] == "broken"
    assert told["unique key without its job"]["count"] == 1
    assert told["job in both tables"]["status"] == "kept"
    await app.close()


async def test_keys_of_several_kinds_are_held_one_after_the_other(settings: Settings, connection: Connection) -> None:
    """A key that was free again, after a period or a start, is in two live jobs: both of them are as they must be."""
    async with application(settings) as app:
        work = app.tasks["work"]
        await work.using(delay=3600, unique=Unique("period", period=0.05)).enqueue("succeed")
        await eventually(lambda: _is_period_over(connection), timeout=30)
        await work.using(unique=Unique("period")).enqueue("succeed")
        started = await work.using(unique=Unique("start", until="start")).enqueue("succeed")
        await connection.execute(f"{STARTED} WHERE id = $1", started.id)
        await work.using(unique=Unique("start")).enqueue("succeed")
        assert await broken(app.database) == {}
        snoozed = f"UPDATE rowlock.job SET {WAITS}, run_at = now() WHERE id = $1"
        await connection.execute(snoozed, started.id)
        assert await broken(app.database) == {}


async def _is_period_over(connection: Connection) -> bool:
    return bool(await connection.fetchval("SELECT bool_and(expires_at < now()) FROM rowlock.unique_key"))


async def test_a_replaced_job_may_have_more_errors_than_attempts(settings: Settings, connection: Connection) -> None:
    async with application(settings) as app:
        work, unique = app.tasks["work"], Unique("again", on_duplicate="replace")
        job = await work.using(unique=unique).enqueue("succeed")
        await connection.execute("UPDATE rowlock.job SET errors = 3, attempt = 3")
        assert (await work.using(unique=unique, max_attempts=2, queue="elsewhere").enqueue("succeed")).id == job.id
        await connection.execute(RECORDED.format(job=f"'{job.id}'", attempt=3, at="now()"))
        assert await broken(app.database) == {}


async def test_what_has_only_just_come_back_is_not_late(app: Rowlock, connection: Connection) -> None:
    """A job whose time was over while it ran, a schedule that was resumed, and one that makes up for every tick."""
    await connection.execute(REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"))
    await connection.execute("UPDATE rowlock.worker SET tasks = '{work,tick}'")
    await connection.execute(
        "UPDATE rowlock.job SET created_at = now() - interval '1 hour', deadline = now() - interval '20 minutes', "
        "expires_at = NULL, ends_at = now() - interval '20 minutes', attempt = 1, run_at = now()"
    )
    late = "UPDATE rowlock.schedule SET next_run_at = now() - interval '20 minutes'"
    await connection.execute(late + ", updated_at = now()")
    assert await broken(app.database) == {}
    await connection.execute(late + ", updated_at = now() - interval '1 hour', misfire = 'all'")
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.schedule SET misfire = 'latest', is_paused = true")
    assert await broken(app.database) == {}
    await connection.execute("UPDATE rowlock.schedule SET is_paused = false")
    await connection.execute("UPDATE rowlock.job SET run_at = now() - interval '20 minutes'")
    assert set(await broken(app.database)) == {"waiting job whose time is over", "schedule left behind"}
    await connection.execute("UPDATE rowlock.duty SET set_at = now() - interval '18 minutes'")
    assert await broken(app.database) == {}, "the duty that ends them has not run since"
    await app.close()


async def test_a_schedule_that_makes_up_for_every_tick_is_left_behind_once_it_fires_no_more(
    app: Rowlock, connection: Connection
) -> None:
    await connection.execute(REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"))
    await connection.execute("UPDATE rowlock.worker SET tasks = '{work,tick}'")
    await connection.execute(
        "UPDATE rowlock.schedule SET misfire = 'all', next_run_at = now() - interval '20 minutes', "
        "updated_at = now() - interval '1 hour'"
    )
    assert await broken(app.database) == {}, "it has fired lately"
    await connection.execute(
        "UPDATE rowlock.schedule_tick "
        "SET tick_at = tick_at - interval '1 hour', fired_at = now() - interval '20 minutes'"
    )
    assert set(await broken(app.database)) == {"schedule left behind"}
    await connection.execute("UPDATE rowlock.schedule SET overlap = 'skip'")
    assert await broken(app.database) == {}, "it skips rounds while its last job runs, and no tick says so"
    await app.close()


async def test_in_the_middle_of_work_nothing_is_broken(settings: Settings, connection: Connection) -> None:
    """A retry and a snooze that wait, a job that runs and is to be cancelled, a paused queue, one set aside."""
    app = application(settings)
    begun: list[Job] = []

    @app.task(backoff=3600)
    async def stay(job: Job, how: str) -> None:
        begun.append(job)
        match how:
            case "snooze":
                raise Snooze(3600)
            case "retry":
                raise Retry(3600)
            case "error":
                raise ValueError("not yet")
            case _:
                await eventually(lambda: len(begun) < 0, timeout=60)

    async with app:
        await app.queues.pause("paused")
        await stay.using(queue="paused", expires=3600, unique=Unique("paused")).enqueue("run")
        crashed = await stay.enqueue("run")
        await connection.execute(f"{STARTED} WHERE id = $1", crashed.id)
        await connection.execute("UPDATE rowlock.job SET crashes = 2, attempt = 3 WHERE id = $1", crashed.id)
        async with app.worker(queues=["default", "paused"]):
            await eventually(lambda: _is_over(app, crashed.id), timeout=30)
            for how in ("snooze", "retry", "error"):
                await stay.using(deadline=7200).enqueue(how)
            for until in ("start", "finish"):
                await stay.using(unique=Unique(until, until=until)).enqueue("run")
            await eventually(lambda: len(begun) == 5, timeout=30)
            await eventually(lambda: _is_waiting_again(connection), timeout=30)
            await stay.using(unique=Unique("start", until="start")).enqueue("snooze")
            assert await broken(app.database) == {}
            await app.cancel(begun[-1].id)
            await app.retry(crashed.id)
            assert await broken(app.database) == {}


async def _is_waiting_again(connection: Connection) -> bool:
    again = "SELECT count(*) = 3 FROM rowlock.job WHERE state = 'queued' AND attempt = 1"
    return bool(await connection.fetchval(again))


@pytest.mark.parametrize(
    "option, value",
    [
        ("days", 0),
        ("days", 36_501),
        ("days", 999_999_999_999),
        ("days", True),
        ("days", 1.5),
        ("rows", 0),
        ("rows", 3_000_000_000),
        ("seconds", 0),
        ("seconds", float("nan")),
        ("seconds", float("inf")),
        ("seconds", 86_401),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=rf"^{option} must be a .*; got .*\. (Give|Omit) .*\.$") as refused:
        Scope(**{option: value})  # type: ignore[arg-type]  # what a caller without types may give
    assert refused.value.option == option


async def test_the_widest_scope_is_looked_at(settings: Settings) -> None:
    async with application(settings) as app:
        widest = Scope(days=audits.MOST_DAYS, rows=audits.MOST_ROWS, seconds=audits.MOST_SECONDS)
        assert {one.status for one in await audit(app.database, widest)} <= {"kept", "empty"}


@pytest.mark.parametrize(
    "given",
    [
        ("--days", "800000"),
        ("--days", "999999999999"),
        ("--days", "0"),
        ("--rows", "3000000000"),
        ("--rows", "0"),
        ("--seconds", "nan"),
        ("--seconds", "-1"),
        ("--all", "--seconds", "inf"),
    ],
)
async def test_the_command_refuses_what_makes_no_sense(given: tuple[str, ...], database_url: str) -> None:
    done = await rowlock("audit", *given, url=database_url)
    assert (done.code, done.out) == (2, "")
    assert given[-2].removeprefix("--") in done.err
    assert "Traceback" not in done.err


async def test_the_command_cannot_look_at_what_is_not_there(empty_database_url: str) -> None:
    assert_refused(await rowlock("audit", url=empty_database_url), "rowlock migrate")


def test_an_archive_is_read_from_the_future_back_to_its_beginning() -> None:
    now, day = datetime(2026, 11, 30, 12, tzinfo=UTC), timedelta(days=1)
    today = datetime(2026, 11, 30, tzinfo=UTC)
    spans = list(days_back(now, now - 2 * day, today - 40 * day))
    assert spans[1:] == [(today - day, today), (now - 2 * day, today - day)]
    assert spans[0][0] == today
    assert spans[0][1].year == 9999
    spans = list(days_back(now, datetime(1, 1, 2, tzinfo=UTC), today - day))
    assert spans[-1] == (datetime(1, 1, 2, tzinfo=UTC), today - day)
    assert len(spans) == 3
