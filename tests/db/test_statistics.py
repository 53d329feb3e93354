"""Statistics: what ended is counted once, however it ended and whatever becomes of it, and read by windows of time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any, TypeAlias

import asyncpg
import pytest

from rowlock import Fail, InvalidOption, Job, Retry, Rowlock, Settings
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.queue.jobs.identifiers import uuid7
from rowlock.queue.jobs.lifecycle import EDGES, State
from rowlock.queue.read.histograms import bucket_of
from rowlock.queue.read.statistics import STEPS, Point, Statistics, read_statistics, slot_of
from rowlock.worker.duties.statistics import BY_TIME
from rowlock.worker.duties.statistics import StatisticsDuty as Duties
from tests.counting import count_alone
from tests.db.claimants import hold
from tests.waiting import eventually

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SECOND = timedelta(seconds=1)


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as app:
        yield app


@pytest.fixture
async def duties(app: Rowlock) -> AsyncIterator[Duties]:
    control = ControlConnection(app.settings, await app.database.dsn(), purpose="upkeep")
    try:
        yield Duties(control, app.database)
    finally:
        await control.close()


async def put(
    connection: Connection,
    ago: timedelta = SECOND,
    *,
    state: str = "succeeded",
    queue: str = "default",
    task: str = "noop",
    took: timedelta | None = SECOND,
    waited: timedelta = SECOND,
    jobs: int = 1,
) -> None:
    """Jobs that ended so long ago."""
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, started_at, "
        "finished_at, max_attempts, errors, priority, queue, args) "
        "SELECT rowlock.uuid7(), $1, $2, 1, 0, now() - $3::interval - coalesce($4::interval, '0') - $5::interval, "
        "now(), now() - $3::interval - $4::interval, now() - $3::interval, 10, 0, 5, $6, '{}' "
        "FROM generate_series(1, $7)",
        task,
        state,
        ago,
        took,
        waited,
        queue,
        jobs,
    )


async def begin(connection: Connection, ago: timedelta) -> None:
    """Have nothing been counted since then."""
    await connection.execute("UPDATE rowlock.statistic_mark SET until = now() - $1::interval", ago)


async def sums(connection: Connection, step: int = 10) -> dict[tuple[str, str], tuple[int, ...]]:
    rows = await connection.fetch(
        "SELECT queue, task, sum(succeeded)::int, sum(failed)::int, sum(cancelled)::int, sum(expired)::int, "
        "sum(errors)::int FROM rowlock.statistic WHERE step = $1 GROUP BY queue, task",
        step,
    )
    return {(row[0], row[1]): tuple(row)[2:] for row in rows}


async def test_what_handlers_do_is_counted(app: Rowlock, connection: Connection, duties: Duties) -> None:
    @app.task(queue="mail")
    async def fine() -> None: ...

    @app.task(max_attempts=2, backoff=[0])
    async def broken() -> None:
        raise ValueError

    @app.task
    async def refused() -> Fail:
        return Fail("no")

    @app.task
    async def within(job: Job) -> None:
        async with job.transaction() as transaction:
            await transaction.execute("SELECT 1")

    @app.task
    async def again(job: Job) -> None:
        if job.attempt == 1:
            raise Retry(0)

    for task in (fine, fine, broken, refused, within, again):
        await task.enqueue()
    await app.jobs.cancel((await fine.using(delay=60).enqueue()).id)
    await app.worker().drain()
    await count_alone(connection, duties)
    expected = {
        ("mail", "fine"): (2, 0, 1, 0, 0),
        ("default", "broken"): (0, 1, 0, 0, 2),
        ("default", "refused"): (0, 1, 0, 0, 1),
        ("default", "within"): (1, 0, 0, 0, 0),
        ("default", "again"): (1, 0, 0, 0, 0),
    }
    for step in STEPS:
        assert await sums(connection, step) == expected
    told = await app.statistics()
    assert (told.total.succeeded, told.total.failed, told.total.cancelled, told.total.errors) == (4, 2, 1, 3)
    assert told.total.duration_p95 is not None
    assert told.total.duration_p95 < 10
    mail = await app.statistics(queue="mail")
    assert ([row.task for row in mail.tasks], mail.total.succeeded) == (["fine"], 2)


async def test_counting_again_changes_nothing(connection: Connection, duties: Duties) -> None:
    await begin(connection, timedelta(minutes=5))
    await put(connection, jobs=3)
    await put(connection, timedelta(minutes=3), state="failed")
    await duties.count()
    before = await connection.fetch("SELECT * FROM rowlock.statistic ORDER BY step, at, queue, task")
    await begin(connection, timedelta(minutes=5))
    await duties.count()
    assert before == await connection.fetch("SELECT * FROM rowlock.statistic ORDER BY step, at, queue, task")
    assert await sums(connection, 7200) == {("default", "noop"): (3, 1, 0, 0, 0)}


async def test_a_finish_that_commits_late_is_counted_the_second_time(connection: Connection, duties: Duties) -> None:
    await begin(connection, timedelta(minutes=4))
    await put(connection, timedelta(minutes=3))
    await duties.count()
    await connection.execute(
        "UPDATE rowlock.statistic_mark SET until = now() - interval '4 minutes' WHERE name = 'recounted'"
    )
    await put(connection, timedelta(minutes=3), jobs=2)  # its time is that of a slot that was counted already
    await duties.count()
    for step in STEPS:
        assert await sums(connection, step) == {("default", "noop"): (3, 0, 0, 0, 0)}


async def test_what_is_retried_or_removed_stays_counted(connection: Connection, duties: Duties) -> None:
    await begin(connection, timedelta(minutes=5))
    await put(connection, timedelta(minutes=3), state="failed", jobs=2)
    await duties.count()
    for _ in range(2):
        await connection.execute(
            "DELETE FROM rowlock.finished_job WHERE id = (SELECT id FROM rowlock.finished_job LIMIT 1)"
        )
        await begin(connection, timedelta(minutes=5))
        await duties.count()
        for step in STEPS:
            assert await sums(connection, step) == {("default", "noop"): (0, 2, 0, 0, 0)}


async def test_after_a_pause_a_day_is_counted_part_by_part(connection: Connection, duties: Duties) -> None:
    await begin(connection, timedelta(days=3))
    for hours in (2, 5, 11, 23):
        await put(connection, timedelta(hours=hours))
    await put(connection, timedelta(hours=30))
    await duties.count()
    assert await sums(connection, 7200) == {("default", "noop"): (4, 0, 0, 0, 0)}, "and no more than a day"
    assert await sums(connection, 10) == {}, "short slots are not kept for long"
    assert await connection.fetchval("SELECT min(until) > now() - interval '3 minutes' FROM rowlock.statistic_mark")


async def test_slots_go_when_no_window_needs_them(connection: Connection, duties: Duties) -> None:
    await begin(connection, timedelta(minutes=1))
    for step, kept in STEPS.items():
        for age in (kept - timedelta(minutes=1), kept + timedelta(minutes=5)):
            await connection.execute(
                "INSERT INTO rowlock.statistic VALUES (now() - $1::interval, $2, 'a', 'b', 1, 0, 0, 0, 0, "
                "'{}', '{}', '{}', '{}')",
                age,
                step,
            )
            await connection.execute(
                "INSERT INTO rowlock.backlog VALUES (now() - $1::interval, now(), NULL, $2, '*', 1, 0, 0)", age, step
            )
    await duties.count()
    for table in ("statistic", "backlog"):
        rows = await connection.fetch(f"SELECT step, count(*) FROM rowlock.{table} GROUP BY step")
        assert {row["step"]: row["count"] for row in rows} == dict.fromkeys(STEPS, 1)


async def test_the_database_and_python_agree_on_the_buckets(connection: Connection, duties: Duties) -> None:
    seconds = [0.0, 0.0003, 0.0011, 0.0012, 0.0015, 0.003, 0.01, 0.5, 1.1, 7.7, 3600.0, 86400.0 * 30]
    for number, took in enumerate(seconds):
        await put(connection, task=f"task_{number}", took=timedelta(seconds=took), waited=timedelta(seconds=2 * took))
    await begin(connection, timedelta(minutes=1))
    await duties.count()
    for number, took in enumerate(seconds):
        row = await connection.fetchrow(
            "SELECT * FROM rowlock.statistic WHERE step = 60 AND task = $1", f"task_{number}"
        )
        assert row is not None
        assert (row["duration_buckets"], row["duration_counts"]) == ([bucket_of(took)], [1])
        assert (row["wait_buckets"], row["wait_counts"]) == ([bucket_of(2 * took)], [1])


async def test_percentiles_are_near_the_exact_ones(app: Rowlock, connection: Connection, duties: Duties) -> None:
    for took, jobs in ((0.1, 60), (1.0, 35), (10.0, 5)):
        await put(connection, took=timedelta(seconds=took), jobs=jobs)
    await put(connection, state="expired", took=None)
    await begin(connection, timedelta(minutes=1))
    await duties.count()
    total = (await app.statistics(window="24h")).total
    for found, exact in ((total.duration_p50, 0.1), (total.duration_p95, 1.0), (total.duration_p99, 10.0)):
        assert found is not None
        assert exact / 1.42 < found < exact * 1.42
    assert total.expired == 1


async def test_rare_kinds_of_a_slot_are_counted_together(
    connection: Connection, duties: Duties, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.duties.statistics.MOST_NAMED", 2)
    await put(connection, timedelta(minutes=3), task="often", jobs=3)
    await put(connection, timedelta(minutes=3), task="sometimes", jobs=2)
    await put(connection, timedelta(minutes=3), task="seldom")
    await put(connection, timedelta(minutes=3), task="also_seldom")
    await begin(connection, timedelta(minutes=5))
    await duties.count()
    await put(connection, timedelta(minutes=3), task="seldom", jobs=9)  # which is the most frequent now
    await begin(connection, timedelta(minutes=5))
    await duties.count()
    for step in STEPS:
        assert await sums(connection, step) == {
            ("default", "often"): (3, 0, 0, 0, 0),
            ("default", "sometimes"): (2, 0, 0, 0, 0),
            ("*", "*"): (11, 0, 0, 0, 0),
        }


async def test_two_workers_do_not_count_at_the_same_time(
    connection: Connection, duties: Duties, direct_url: str
) -> None:
    await put(connection)
    other: Connection = await asyncpg.connect(direct_url)
    async with other.transaction():
        await other.fetch(statement("lock_statistics", "rowlock"))
        async with asyncio.timeout(5):
            await duties.count()
        assert await sums(connection) == {}
    await other.close()
    await duties.count()
    assert len(await sums(connection)) == 1


async def test_a_worker_counts_and_looks_by_itself(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def noop() -> None: ...

    await connection.execute("UPDATE rowlock.duty SET every = '100 ms' WHERE name IN ('statistics', 'backlog')")
    await noop.using(queue="elsewhere").enqueue()
    await noop.enqueue()

    async def is_told() -> bool:
        told = await app.statistics()
        return told.total.succeeded == 1 and any(point.waiting == 1 for point in told.points)

    async with app.worker(queues=["default"]):
        await eventually(is_told)


def sampled(told: Statistics) -> Point:
    """The last point at which somebody looked."""
    return next(point for point in reversed(told.points) if point.waiting is not None)


async def test_the_backlog_is_sampled_by_queue(app: Rowlock, connection: Connection, duties: Duties) -> None:
    @app.task
    async def noop() -> None: ...

    await noop.using(queue="one").enqueue()
    await noop.using(queue="one", delay=3600).enqueue()
    await noop.using(queue="two").enqueue()
    await connection.execute("UPDATE rowlock.job SET run_at = now() - interval '1 minute' WHERE queue = 'two'")
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, queue, state, worker) "
        "VALUES (rowlock.uuid7(), 'noop', 'one', 'running', $1)",
        uuid7(),
    )
    await hold(connection)
    await duties.sample()
    last = sampled(await app.statistics())
    assert (last.waiting, last.running) == (2, 1)
    assert last.oldest_due == pytest.approx(60, abs=5)
    one = sampled(await app.statistics(window="30d", queue="one"))
    assert (one.waiting, one.running) == (1, 1)
    limited = sampled(await read_statistics(app.database, within=frozenset({"two"})))
    assert (limited.waiting, limited.running) == (1, 0)
    await connection.execute("DELETE FROM rowlock.job WHERE queue = 'one'")
    await duties.sample()
    gone = sampled(await app.statistics(queue="one"))
    assert (gone.waiting, gone.running, gone.oldest_due) == (0, 0, 0), "a queue that has none any more has none"


async def test_queues_named_as_the_rows_of_totals_stop_no_sample(
    app: Rowlock, connection: Connection, duties: Duties
) -> None:
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, queue) SELECT rowlock.uuid7(), 'noop', unnest(ARRAY['*', '+', 'one'])"
    )
    await duties.sample()
    rows = await connection.fetch("SELECT DISTINCT queue, waiting FROM rowlock.backlog ORDER BY queue")
    assert [tuple(row) for row in rows] == [("*", 3), ("one", 1)]


def test_no_edge_leads_to_a_blocked_job_so_the_sample_counts_none() -> None:
    assert all(end is not State.BLOCKED for _, _, end in EDGES), "sample_backlog.sql must count them, by an index"


@pytest.mark.parametrize("window", ["1h", "6h", "24h", "7d", "30d"])
async def test_a_window_has_its_points_without_gaps(app: Rowlock, duties: Duties, window: str) -> None:
    await duties.sample()
    told = await app.statistics(window=window)
    assert 60 <= len(told.points) <= 120
    assert told.points[0].at == told.since == slot_of(told.since, told.step)
    assert {later.at - earlier.at for earlier, later in zip(told.points, told.points[1:], strict=False)} == {
        timedelta(seconds=told.step)
    }
    assert told.points[-1].at <= told.until
    assert [point.waiting for point in told.points if point.waiting is not None] == [0]
    assert told.total.duration_p50 is None


async def test_only_what_is_asked_for_is_told(app: Rowlock, connection: Connection, duties: Duties) -> None:
    await put(connection, queue="one", task="a", jobs=5)
    await put(connection, queue="two", task="a")
    await put(connection, queue="two", task="b", jobs=2)
    await begin(connection, timedelta(minutes=1))
    await duties.count()

    def told(found: Statistics) -> tuple[int, dict[str, int], dict[str, int], int]:
        queues = {row.queue: row.succeeded for row in found.queues}
        tasks = {row.task: row.succeeded for row in found.tasks}
        return found.total.succeeded, queues, tasks, sum(point.succeeded for point in found.points)

    everything = await app.statistics()
    assert told(everything) == (8, {"one": 5, "two": 3}, {"a": 6, "b": 2}, 8)
    assert [row.queue for row in everything.queues] == ["one", "two"], "the busiest first"
    assert told(await app.statistics(task="a")) == (6, {"one": 5, "two": 1}, {"a": 6}, 6)
    assert told(await app.statistics(queue="two", task="a")) == (1, {"two": 1}, {"a": 1}, 1)
    assert told(await read_statistics(app.database, within=frozenset({"two"}))) == (3, {"two": 3}, {"a": 1, "b": 2}, 3)
    assert told(await read_statistics(app.database, queue="one", within=frozenset({"two"}))) == (0, {}, {}, 0)


@pytest.mark.parametrize(
    "options, part", [({"window": "2h"}, "1h, 6h"), ({"queue": "a b"}, "queue"), ({"task": "*"}, "task")]
)
async def test_what_makes_no_sense_is_refused(app: Rowlock, options: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidOption, match=part):
        await app.statistics(**options)


async def test_a_big_day_is_read_by_its_index_even_where_it_is_believed_to_be_empty(connection: Connection) -> None:
    today: str = await connection.fetchval(
        "SELECT 'rowlock.finished_job_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')"
    )
    await connection.execute(f"ALTER TABLE {today} SET (autovacuum_enabled = off)")
    await connection.execute(f"ANALYZE {today}")  # empty still
    await connection.execute(
        "INSERT INTO rowlock.finished_job (id, task, state, attempt, crashes, run_at, created_at, started_at, "
        "finished_at, max_attempts, errors, priority, queue, args) "
        "SELECT gen_random_uuid(), 'noop', 'succeeded', 1, 0, at, at, at, at, 10, 0, 5, 'default', '{}' "
        "FROM (SELECT date_trunc('day', now(), 'UTC') + n * interval '1 ms' AS at "
        "FROM generate_series(0, 30000) AS n) AS given"
    )
    await connection.execute("SELECT brin_summarize_new_values($1::regclass)", f"{today}_finished_at_idx")
    since: datetime = await connection.fetchval("SELECT date_trunc('day', now(), 'UTC') + interval '20 seconds'")
    for name, value in BY_TIME.items():
        await connection.execute(f"SET {name} = {value}")
    counted = await bound(connection, "count_finished", 10, since, since + SECOND, 200)
    (plan,) = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {counted}"))
    of_today = [node for node in nodes(plan["Plan"]) if f"rowlock.{node.get('Relation Name')}" == today]
    assert [node["Node Type"] for node in of_today] == ["Bitmap Heap Scan"]
    assert of_today[0]["Actual Rows"] + of_today[0].get("Rows Removed by Index Recheck", 0) < 15_000


async def bound(connection: Connection, name: str, *parameters: object) -> str:
    """The statement with its parameters in it, as EXPLAIN wants it."""
    text = statement(name, "rowlock")
    for number, value in enumerate(parameters, start=1):
        literal = await connection.fetchval("SELECT quote_literal($1::text)", str(value))
        text = text.replace(f"${number}::", f"{literal}::")
    return text


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan] + [node for part in plan.get("Plans", []) for node in nodes(part)]
