"""Totals are true, however many queues there are, or what cannot be known is not given."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from rowlock import Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.worker.duties.statistics import StatisticsDuty as Duties

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

QUEUES = 30
SAMPLED = 10
JOBS = 4


@pytest.fixture
async def app(settings: Settings, connection: Connection, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Rowlock]:
    """More queues than a sample tells apart, with more jobs than are counted whenever anybody looks."""
    monkeypatch.setattr("rowlock.worker.duties.statistics.MOST_SAMPLED", SAMPLED)
    for name in ("read.overview", "operate.queues"):
        monkeypatch.setattr(f"rowlock.queue.{name}.MANY", 2)
    await connection.execute(
        "INSERT INTO rowlock.job (id, task, queue) SELECT rowlock.uuid7(), 'noop', 'q' || n "
        "FROM generate_series(1, $1) AS n, generate_series(1, $2)",
        QUEUES,
        JOBS,
    )
    await connection.execute("INSERT INTO rowlock.job (id, task, queue) VALUES (rowlock.uuid7(), 'noop', 'a')")
    async with Rowlock(settings=settings) as app:
        control = ControlConnection(settings, await app.database.dsn(), purpose="upkeep")
        try:
            await Duties(control, app.database).sample()
        finally:
            await control.close()
        yield app


async def test_totals_are_true_with_more_queues_than_a_sample_tells_apart(app: Rowlock) -> None:
    overview = await app.overview()
    assert overview.waiting == QUEUES * JOBS + 1
    assert sum(queue.waiting for queue in overview.queues) == overview.waiting
    assert overview.unclaimed == QUEUES * JOBS + 1
    for exact in (True, False):
        queues = {queue.name: queue.waiting for queue in await app.queues.list(exact=exact)}
        assert (queues["q30"], queues["a"], sum(queues.values())) == (JOBS, 1, overview.waiting)
        assert (await app.queues.get("a", exact=exact)).waiting == 1


async def test_a_sample_that_names_every_queue_is_used(app: Rowlock, connection: Connection) -> None:
    await connection.execute("DELETE FROM rowlock.backlog WHERE queue = '+'; DELETE FROM rowlock.job")
    assert (await app.overview()).waiting == SAMPLED * JOBS


async def test_what_a_sample_does_not_say_of_a_queue_is_not_taken_for_none(app: Rowlock) -> None:
    for queue, waiting in ((None, QUEUES * JOBS + 1), ("q1", JOBS), ("a", None)):
        points = (await app.statistics(queue=queue)).points
        assert [point.waiting for point in points if point.waiting is not None][-1:] == ([waiting] if waiting else [])


async def test_the_doctor_says_how_many_kinds_it_does_not_name(app: Rowlock, settings: Settings) -> None:
    found = [finding for finding in await examine(settings) if finding.check == "unclaimed jobs"]
    assert len(found) == 21
    assert found[-1].detail == f"{10 * JOBS + 1} due jobs of 11 other kinds"
