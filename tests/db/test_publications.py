"""Logical replication: a publication of all tables takes what Rowlock updates and deletes."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Job, JobFilter, Rowlock, Settings, Unique
from rowlock.queue.connect import statements
from tests.logged import capture_logs
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

_WRITES = re.compile(r"(?:UPDATE|DELETE\s+FROM|TRUNCATE|ON CONFLICT)\s+(?:ONLY\s+)?rowlock\.(%I|%1\$I|\w+)")

WITHOUT_IDENTITY = (
    "SELECT oid::regclass::text FROM pg_class "
    "WHERE relnamespace = 'rowlock'::regnamespace AND relkind = 'r' AND relpersistence = 'p' AND NOT ("
    "relreplident = 'f' OR relreplident = 'd' AND EXISTS ("
    "SELECT FROM pg_index WHERE indrelid = pg_class.oid AND indisprimary) OR relreplident = 'i')"
)


@pytest.fixture
async def app(settings: Settings, connection: Connection) -> AsyncIterator[Rowlock]:
    await connection.execute("SET client_min_messages = error; CREATE PUBLICATION everything FOR ALL TABLES")
    async with Rowlock(settings=settings) as app:
        yield app


def sql() -> dict[str, str]:
    """All that the package writes in SQL, by file."""
    migration = files("rowlock").joinpath("migrations/versions/0001_initial")
    texts: list[Traversable] = [*statements.statements().values(), *migration.iterdir()]
    return {text.name: text.read_text(encoding="utf-8") for text in texts}


async def test_each_table_that_is_updated_or_deleted_from_has_a_replica_identity(connection: Connection) -> None:
    await connection.execute("SELECT rowlock.create_partition('finished_job', '2020-01-01')")
    without = {row[0] for row in await connection.fetch(WITHOUT_IDENTITY)}
    written = {(name, table) for name, text in sql().items() for table in _WRITES.findall(text)}
    assert ("retry.sql", "finished_job") in written
    assert ("retention.sql", "%1$I") in written, "the default partitions, by name"
    parents = {"finished_job", "attempt", "attempt_log"}
    for name, table in sorted(written):
        of = parents if table.startswith("%") else {table}
        partitions = {
            row[0]
            for row in await connection.fetch(
                "SELECT relid::regclass::text FROM unnest($1::text[]) AS wanted (name), "
                "pg_partition_tree(to_regclass('rowlock.' || wanted.name)) WHERE isleaf",
                sorted(of),
            )
        }
        assert not {f"rowlock.{one}" for one in of - parents} & without, name
        assert not partitions & without, name


async def test_every_table_has_one_tomorrow_s_partition_too(connection: Connection) -> None:
    assert [row[0] for row in await connection.fetch(WITHOUT_IDENTITY)] == []


async def test_acts_work_under_a_publication_of_all_tables(app: Rowlock, connection: Connection) -> None:
    @app.task(max_attempts=1, result_ttl=timedelta(seconds=1), capture_logs=True)
    async def work(job: Job, *, fails: bool) -> int:
        logging.getLogger("shop").warning("at work")
        await job.progress(0.5)
        await job.save_checkpoint({"n": 1})
        if fails:
            raise ValueError
        return 1

    failed = [await work.using(unique=Unique(str(n))).enqueue(fails=True) for n in range(4)]
    waiting = await work.using(delay=3600).enqueue(fails=False)
    await work.enqueue(fails=False)
    await app.worker().drain()
    assert (await app.jobs.retry(failed[0].id)).state == "queued"
    assert await app.jobs.cancel(failed[0].id) == "cancelled"
    assert (await app.jobs.discard(failed[1].id)).discarded_at is not None
    assert (await app.jobs.retry_many(JobFilter(state="failed"))).count == 2
    assert (await app.jobs.cancel_many(JobFilter(task="work"))).count == 3
    assert (await app.jobs.retry_many(JobFilter(state="cancelled"))).count == 4
    await app.worker().drain()
    assert (await app.jobs.discard_many(JobFilter(state="failed"))).count == 3
    assert (await app.get(waiting.id)).state == "succeeded"
    later = await work.using(delay=3600).enqueue(fails=False)
    assert (await app.jobs.reschedule(later.id, delay=60, priority=9, queue="bulk")).queue == "bulk"
    assert (await app.jobs.reschedule_many(JobFilter(task="work"), delay=0)).count == 1
    await app.jobs.delete(failed[1].id)
    assert await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE job_id = $1", failed[1].id) == 0
    await app.queues.pause("default")
    await app.queues.resume("default")
    await app.retention.keep("*", succeeded=timedelta(hours=1))
    await app.schedules.create("nightly", "work", "0 3 * * *", args={"fails": False})
    await app.schedules.pause("nightly")
    await app.schedules.delete("nightly")


async def test_upkeep_works_under_a_publication_of_all_tables(app: Rowlock, connection: Connection) -> None:
    @app.task(result_ttl=timedelta(seconds=1), schedule="* * * * * *")
    async def work() -> int:
        return 1

    await app.retention.keep("*", succeeded=timedelta(hours=1))
    for days in (2, 40):
        await connection.execute(
            "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, finished_at, "
            "max_attempts, errors, priority, queue, args, result) "
            "SELECT rowlock.uuid7(), 'work', state, 1, 0, at, at, at, 1, 1, 5, 'default', '{}', '1' "
            "FROM unnest(ARRAY['succeeded', 'failed']) AS state, (SELECT now() - $1 * interval '1 day' AS at) AS ended",
            days,
        )
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, expires_at, ends_at) "
        "VALUES (rowlock.uuid7(), 'work', now() - interval '1 s', now() - interval '1 s');"
        "INSERT INTO rowlock.job (id, task, state, attempt, worker) "
        "VALUES (rowlock.uuid7(), 'work', 'running', 1, rowlock.uuid7());"
        "INSERT INTO rowlock.unique_key VALUES ('old', rowlock.uuid7(), now() - interval '1 s');"
        "INSERT INTO rowlock.progress (job_id, attempt, fraction, updated_at) "
        "VALUES (rowlock.uuid7(), 1, 0, now() - interval '1 year')"
    )
    moved = "SELECT rowlock.create_partitions(3)"
    await connection.execute(moved)
    began = await connection.fetchval("SELECT clock_timestamp()")
    old_results_are_gone = (
        "SELECT count(*) = 0 FROM rowlock.finished_job "
        "WHERE result IS NOT NULL AND finished_at < now() - interval '1 hour'"
    )
    with capture_logs() as logs:
        async with app.worker():
            await eventually(lambda: _all_were_done(connection, began))
            await eventually(lambda: connection.fetchval(old_results_are_gone))
            # While its row is locked, no duty is claimed: each that is claimed from now on is seen to be.
            again = await connection.fetchval(
                "UPDATE rowlock.duty SET next_run_at = '-infinity' RETURNING clock_timestamp()"
            )
            await eventually(lambda: _all_were_done(connection, again))
    assert [entry for entry in logs if "error" in entry] == []


async def _all_were_done(connection: Connection, since: Any) -> bool:  # noqa: ANN401  # a time
    query = "SELECT bool_and(set_at > $1 AND next_run_at > $1) FROM rowlock.duty"
    return bool(await connection.fetchval(query, since))
