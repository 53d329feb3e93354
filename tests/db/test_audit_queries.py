"""Every query of docs/audit.md, asked of a database in which real jobs have run, answers what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from examples.tour.pages import ROOT, examples
from rowlock import Cancel, Fail, Job, JobFailed, Rowlock, Settings, Snooze

Rows = list[asyncpg.Record]

QUERIES = {example.heading: example.text for example in examples(ROOT / "docs" / "audit.md", "sql")}
MINUTE = timedelta(minutes=1)
GHOST = UUID("0199aa5e-7c00-7000-8000-00000000dead")
"""The id of a worker that has died, in the database's words: it has no row."""


@dataclass(slots=True, kw_only=True)
class World:
    """What has happened: the ids of the jobs, by name."""

    connection: asyncpg.Connection[asyncpg.Record]
    ids: dict[str, UUID]

    async def ask(self, heading: str) -> Rows:
        """Run the query under this heading."""
        return await self.connection.fetch(QUERIES[heading])


def _application(settings: Settings) -> Rowlock:
    app = Rowlock(settings=settings)

    @app.task(queue="reports")
    async def report(order: int) -> int:
        return order

    @app.task(queue="email", max_attempts=3, backoff=0)
    async def email(job: Job, order: int, fails: int) -> None:
        if job.attempt <= fails:
            raise ConnectionError("refused")

    @app.task(max_attempts=5)
    async def decide(job: Job, what: str) -> None:
        match what:
            case "cancel":
                raise Cancel("nothing to do")
            case "fail":
                raise Fail("makes no sense")
            case _ if job.attempt == 1:
                raise Snooze(0)

    @app.task
    async def crashed() -> None:
        """Its worker died twice before."""

    return app


@pytest.fixture
async def world(settings: Settings, connection: asyncpg.Connection[asyncpg.Record]) -> World:
    app = _application(settings)
    email, report, decide = app.tasks["email"], app.tasks["report"], app.tasks["decide"]
    jobs = {
        "quick report": await report.enqueue(order=41),
        "slow report": await report.enqueue(order=42),
        "email": await email.enqueue(order=42, fails=0),
        "email at the third attempt": await email.enqueue(order=43, fails=2),
        "dead email": await email.enqueue(order=42, fails=3),
        "cancelled": await decide.enqueue("cancel"),
        "failed": await decide.enqueue("fail"),
        "snoozed": await decide.enqueue("snooze"),
        "crashed": await app.tasks["crashed"].enqueue(),
    }
    await _crash(connection, jobs["crashed"].id)
    async with app.worker():
        for job in jobs.values():
            with suppress(JobFailed):
                await job.result(timeout=30)
    jobs |= {
        "scheduled": await email.using(delay=3600).enqueue(order=44, fails=0),
        "queued": await report.enqueue(order=45),
        "running": await report.using(queue="slow").enqueue(order=46),
        "unknown": await report.using(queue="nowhere").enqueue(order=47),
    }
    ids = {name: job.id for name, job in jobs.items()}
    ids["old"] = (await report.enqueue(order=48)).id
    await _set_times(connection, ids)
    await app.close()
    return World(connection=connection, ids=ids)


async def _crash(connection: asyncpg.Connection[asyncpg.Record], job: UUID) -> None:
    """Let the job be claimed by a worker that is gone: whoever comes next takes it back."""
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 1, started_at = now() WHERE id = $1",
        job,
        GHOST,
    )


async def _set_times(connection: asyncpg.Connection[asyncpg.Record], ids: dict[str, UUID]) -> None:
    """Give chosen jobs known times, a live worker to the running one, and an end two days ago to the old one."""
    durations = {"quick report": 2 * MINUTE, "slow report": 10 * MINUTE}
    for name, duration in durations.items():
        await connection.execute(
            "UPDATE rowlock.finished_job SET started_at = finished_at - $2::interval, "
            "run_at = finished_at - $2::interval - interval '30 seconds' WHERE id = $1",
            ids[name],
            duration,
        )
    worker = await connection.fetchval(
        "INSERT INTO rowlock.worker (id, hostname, pid, version, queues, tasks, concurrency, expires_at) "
        "VALUES (gen_random_uuid(), 'host-1', 4711, '1', '{reports,email,slow}', '{report,email}', 5, "
        "now() + interval '15 seconds') RETURNING id"
    )
    await connection.execute(
        "UPDATE rowlock.job SET state = 'running', worker = $2, attempt = 1, started_at = now() - interval '5 minutes' "
        "WHERE id = $1",
        ids["running"],
        worker,
    )
    await connection.execute(
        "UPDATE rowlock.job SET run_at = now() - interval '7 minutes' WHERE id = $1", ids["queued"]
    )
    await connection.execute(
        "WITH gone AS (DELETE FROM rowlock.job WHERE id = $1 RETURNING *) "
        "INSERT INTO rowlock.finished_job (id, run_at, created_at, started_at, finished_at, attempt, max_attempts, "
        "errors, crashes, priority, state, queue, task, args) SELECT id, run_at, created_at, "
        "now() - interval '50 hours', now() - interval '49 hours', 1, 1, 1, 0, priority, 'failed', "
        "queue, task, args FROM gone",
        ids["old"],
    )


def _about(seen: timedelta, expected: timedelta) -> bool:
    return abs(seen - expected) < timedelta(seconds=20)


async def test_throughput_by_hour(world: World) -> None:
    rows = await world.ask("Throughput by hour")  # two rows if the hour has just begun
    assert sum(row["succeeded"] for row in rows) == 6
    assert sum(row["failed"] for row in rows) == 2
    assert sum(row["cancelled"] for row in rows) == 1
    assert all(row["hour"].minute == row["hour"].second == 0 for row in rows)


async def test_slowest_tasks(world: World) -> None:
    rows = await world.ask("Slowest tasks")
    assert (rows[0]["task"], rows[0]["jobs"]) == ("report", 2)
    assert rows[0]["median"] == 6 * MINUTE
    assert rows[0]["longest"] == 10 * MINUTE
    assert rows[0]["median"] < rows[0]["p95"] < rows[0]["longest"]
    assert {row["task"]: row["jobs"] for row in rows[1:]} == {"email": 2, "decide": 1, "crashed": 1}


async def test_failures_by_type(world: World) -> None:
    rows = await world.ask("Failures by type")
    assert (rows[0]["task"], rows[0]["error"], rows[0]["attempts"], rows[0]["jobs"]) == (
        "email",
        "ConnectionError",
        5,
        2,
    )
    rest = {(row["task"], row["error"], row["attempts"], row["jobs"]) for row in rows[1:]}
    assert rest == {("crashed", "crashed", 1, 1), ("decide", "Fail", 1, 1)}


async def test_jobs_of_one_order(world: World) -> None:
    rows = await world.ask("Jobs of one order")
    assert [row["id"] for row in rows] == [world.ids[name] for name in ("slow report", "email", "dead email")]
    assert [row["state"] for row in rows] == ["succeeded", "succeeded", "failed"]


async def test_history_of_one_job(world: World) -> None:
    query = QUERIES["History of one job"]
    of_this, count = re.subn(r"'[0-9a-f-]{36}'", f"'{world.ids['dead email']}'", query)
    assert count == 1
    rows = await world.connection.fetch(of_this)
    assert [(row["attempt"], row["outcome"], row["error_type"], row["message"]) for row in rows] == [
        (attempt, "error", "ConnectionError", "refused") for attempt in (1, 2, 3)
    ]
    assert all(timedelta(0) <= row["took"] < MINUTE for row in rows)


async def test_waiting_time_by_queue(world: World) -> None:
    rows = await world.ask("Waiting time by queue")
    assert {row["queue"]: row["jobs"] for row in rows} == {"reports": 2, "email": 3, "default": 4}
    assert rows[0]["queue"] == "reports"
    assert rows[0]["median"] == rows[0]["p95"] == timedelta(seconds=30)


async def test_retries_that_succeeded(world: World) -> None:
    (row,) = await world.ask("Retries that succeeded")
    assert (row["task"], row["jobs"], row["failed_attempts"], row["most"]) == ("email", 1, 2, 2)
    assert timedelta(0) < row["longest_until_success"] < MINUTE


async def test_dead_letters_of_the_last_day(world: World) -> None:
    rows = await world.ask("Dead letters of the last day")
    assert {row["id"]: row["error"] for row in rows} == {
        world.ids["dead email"]: "ConnectionError: refused",
        world.ids["failed"]: "Fail: makes no sense",
    }


async def test_what_runs_now_and_where(world: World) -> None:
    (row,) = await world.ask("What runs now, and where")
    assert (row["id"], row["task"], row["attempt"]) == (world.ids["running"], "report", 1)
    assert (row["hostname"], row["pid"]) == ("host-1", 4711)
    assert _about(row["running_for"], 5 * MINUTE)
    assert _about(row["lease_left"], timedelta(seconds=15))


async def test_backlog_by_queue_and_state(world: World) -> None:
    rows = await world.ask("Backlog by queue and state")
    assert [(row["queue"], row["state"], row["jobs"]) for row in rows] == [
        ("email", "scheduled", 1),
        ("nowhere", "queued", 1),
        ("reports", "queued", 1),
        ("slow", "running", 1),
    ]
    assert rows[0]["oldest_due"] is None
    assert _about(rows[2]["oldest_due"], 7 * MINUTE)


async def test_jobs_that_nobody_can_run(world: World) -> None:
    (row,) = await world.ask("Jobs that nobody can run")
    assert (row["queue"], row["task"], row["jobs"]) == ("nowhere", "report", 1)


async def test_jobs_that_took_their_workers_down(world: World) -> None:
    (row,) = await world.ask("Jobs that took their workers down")
    assert (row["id"], row["state"], row["crashes"], row["attempt"]) == (world.ids["crashed"], "succeeded", 1, 2)


def test_every_query_has_a_test() -> None:
    here: dict[str, Callable[..., object]] = globals()
    for heading in QUERIES:
        name = f"test_{re.sub('[^a-z]+', '_', heading.lower())}"
        assert name in here, f"no {name}"


async def test_queues_that_are_paused(world: World, settings: Settings) -> None:
    assert await world.ask("Queues that are paused") == []
    async with Rowlock(settings=settings) as app:
        await app.queues.pause("reports", by="ada")
    (row,) = await world.ask("Queues that are paused")
    assert (row["name"], row["by"]) == ("reports", "ada")
    assert row["due"] >= 1
