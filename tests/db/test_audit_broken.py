"""The audit is exact about each invariant that somebody breaks by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.read.audits import INVARIANTS
from tests.conftest import _database
from tests.db.audited import (
    HOLDING,
    OTHER,
    RECORDED,
    REGISTERED,
    RUNNING,
    WORKER,
    Connection,
    after_work,
    application,
    broken,
)

if TYPE_CHECKING:
    from tests.conftest import Server


@pytest.fixture(scope="session")
def worked(server: Server, admin: psycopg.Connection, template: str) -> Iterator[str]:
    """The name of a database whose jobs have gone through everything, for copies."""

    async def work(url: str) -> None:
        connection = await asyncpg.connect(url)
        async with await after_work(Settings(database_url=url), connection):
            await connection.close()

    with contextmanager(_database)(admin, template) as name:
        asyncio.run(work(server.url(name)))
        yield name


@pytest.fixture
def database(admin: psycopg.Connection, worked: str) -> Iterator[str]:
    yield from _database(admin, worked)


@pytest.fixture
def app(settings: Settings) -> Rowlock:
    return application(settings)


ARCHIVED = (
    "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, started_at, finished_at, "
    "max_attempts, errors, priority, queue, args, worker) SELECT id, 'work', 'succeeded', 1, 0, run_at, created_at, "
    "created_at, {at}, 10, 0, 5, 'default', '{{}}', '" + WORKER + "' FROM rowlock.{source} LIMIT 1"
)
A_FINISHED_ONE = "(SELECT id FROM rowlock.finished_job WHERE state = 'succeeded' LIMIT 1)"
A_WAITING_ONE = "(SELECT id FROM rowlock.job WHERE unique_key IS NULL LIMIT 1)"
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
        HOLDING,
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
        "running job that nobody holds",
        REGISTERED.format(id=WORKER, age="1 hour", left="1 hour"),
        RUNNING.format(worker=WORKER, age="0"),
        word="do not list it",
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
        HOLDING,
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
        HOLDING,
        word="has no row",
    ),
    by(
        "running job without a lease",
        REGISTERED.format(id=OTHER, age="1 hour", left="1 hour"),
        REGISTERED.format(id=WORKER, age="1 hour", left="-20 minutes"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        HOLDING,
        word="ran out",
    ),
    by(
        "running job that its worker cannot have claimed",
        REGISTERED.format(id=WORKER, age="1 minute", left="1 hour"),
        RUNNING.format(worker=WORKER, age="20 minutes"),
        HOLDING,
        word="which started at",
    ),
    by(
        "running job that its worker cannot have claimed",
        REGISTERED.format(id=WORKER, age="1 hour", left="1 hour"),
        RUNNING.format(worker=WORKER, age="0"),
        HOLDING,
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
    by("duty too far ahead", "UPDATE rowlock.duty SET next_run_at = now() + interval '3 hours'", word="next due at"),
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
