"""Workers that serve queues by wildcards: which they find, when, and what it costs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias

import asyncpg
import pytest

from rowlock import InvalidOption, Rowlock, Settings
from rowlock.cli.commands.doctor import examine
from rowlock.cli.show import findings
from rowlock.queue.claim.cursors import Lane
from rowlock.queue.claim.served import parse_served
from tests.db.test_statements import SITUATIONS, bring_about, nodes, plan_of
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


@pytest.fixture
async def app(database_url: str) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=Settings(database_url=database_url, poll_interval=timedelta(seconds=0.05))) as made:
        yield made


async def test_queues_that_come_while_the_worker_runs_are_served_and_others_are_not(
    app: Rowlock, connection: Connection
) -> None:
    @app.task
    async def greet(tenant: str) -> str:
        return tenant

    await greet.using(queue="tenant-1").enqueue("1")
    async with app.worker(queues=["tenant-*"]) as worker:
        assert (await app.workers.get(worker.id)).queues == ["tenant-1"]
        new = await greet.using(queue="tenant-2").enqueue("2")
        other = await greet.using(queue="lodger-1").enqueue("3")
        assert await new.result(timeout=5) == "2"

        async def is_written_down() -> bool:
            return (await app.workers.get(worker.id)).queues == ["tenant-1", "tenant-2"]

        await eventually(is_written_down)
        assert (await app.get(other.id)).state == "queued"
        await app.queues.pause("tenant-3")  # before anybody knows it
        waiting = await greet.using(queue="tenant-3").enqueue("3")
        await eventually(lambda: "tenant-3" in worker._shift.claims.queues)
        assert (await app.get(waiting.id)).state == "queued"
        await app.queues.resume("tenant-3")
        assert await waiting.result(timeout=5) == "3"


async def test_a_limit_on_a_wildcard_holds_for_each_of_its_queues_and_a_name_beats_it(app: Rowlock) -> None:
    running, release = Counter[str](), asyncio.Event()

    @app.task
    async def wait(queue: str) -> None:
        running[queue] += 1
        await release.wait()

    for queue in ("tenant-1", "tenant-2", "tenant-vip"):
        await app.enqueue_many([wait.using(queue=queue).job(queue) for _ in range(6)])
    async with app.worker(queues={"tenant-*": 2, "tenant-vip": 4}) as worker:
        await eventually(lambda: running.total() == 8)
        assert running == {"tenant-1": 2, "tenant-2": 2, "tenant-vip": 4}
        release.set()
        await eventually(lambda: worker._shift.slots.done == 18)


@pytest.mark.needs_session("without notifications a worker polls")
async def test_a_sleeping_worker_claims_from_a_new_queue_as_soon_as_it_has_found_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.queue.connect.listening.TEST_EVERY", 3600)
    settings = Settings(database_url=database_url, poll_interval=timedelta(seconds=60))
    async with Rowlock(settings=settings) as app:

        @app.task
        async def noop() -> None: ...

        async with app.worker(queues=["tenant-*"]) as worker:
            await eventually(lambda: worker._shift.doze._is_marked)
            await (await noop.using(queue="tenant-new").enqueue()).result(timeout=20)


async def test_a_queue_that_has_been_empty_for_long_is_dropped_and_found_again(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.orders.KEEP_SECONDS", 0.1)
    monkeypatch.setattr("rowlock.worker.loop.orders.DISCOVER_EVERY", 0.05)
    monkeypatch.setattr("rowlock.worker.attention.LOOK_EVERY", 0.05)

    @app.task
    async def noop() -> None: ...

    async with app.worker(queues=["*-mail", "default"]) as worker:
        for _ in range(2):
            job = await noop.using(queue="bulk-mail").enqueue()
            await job.result(timeout=5)
            await eventually(lambda: worker._shift.claims.queues == ["default"])
            assert Lane("bulk-mail", 5) not in worker._shift.claims.settled


async def test_a_worker_of_very_many_queues_does_their_jobs_and_says_that_there_are_many(
    app: Rowlock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.orders.MANY_QUEUES", 99)
    monkeypatch.setattr(findings, "MANY_QUEUES", 99)

    @app.task
    async def noop() -> None: ...

    jobs = [await noop.using(queue=f"tenant-{number}").enqueue() for number in range(100)]
    with capture_logs() as lines:
        async with app.worker(queues=["tenant-*"]):
            (warned,) = [line for line in lines if line["event"] == "many_queues_served"]
            assert (warned["queues"], warned["most"]) == (100, 99)
            (found,) = [finding for finding in await examine(app.settings) if finding.check == "workers"]
            assert (found.status, found.detail) == (
                "warn",
                "one serves 100 queues, and searches all of them for a due job",
            )
            for job in jobs:
                await job.result(timeout=30)


@pytest.mark.needs_session("it waits for a notification")
async def test_a_worker_of_many_queues_that_sleeps_is_woken_for_any_of_them(
    database_url: str, connection: Connection
) -> None:
    async with Rowlock(settings=Settings(database_url=database_url, poll_interval=timedelta(minutes=10))) as app:

        @app.task
        async def noop() -> None: ...

        queues = [f"tenant-{number:03}" for number in range(100)]

        async def sleeps() -> bool:
            return bool(await connection.fetchval("SELECT count(*) = 100 FROM rowlock.idle_worker"))

        async with app.worker(queues=queues):
            for queue in (queues[0], queues[50], queues[99]):
                await eventually(sleeps)
                await (await noop.using(queue=queue).enqueue()).result(timeout=30)


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_discovery_probes_the_claim_index_once_a_queue(situation: str, connection: Connection) -> None:
    await bring_about(connection, situation)
    plan = await plan_of(connection, "discover_queues", "")
    scans = [node for node in plan if node.get("Relation Name") == "job"]
    assert {(node["Node Type"], node["Index Name"]) for node in scans} <= {
        ("Index Scan", "job_claim"),
        ("Index Only Scan", "job_claim"),
    }
    assert any("queue" in node.get("Index Cond", "") for node in scans), "each probe begins behind the last queue"
    ran = json.loads(await connection.fetchval("EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE tried"))
    rows = [node["Actual Rows"] for node in nodes(ran[0]["Plan"]) if node.get("Relation Name") == "job"]
    assert sum(rows) <= 2


def test_names_wildcards_and_limits_are_told_apart() -> None:
    served = parse_served(["email", "tenant-*:2", "*-mail:3", "tenant-vip:4", "reports:1", "reports"], [])
    assert served.names == ("email", "tenant-vip", "reports")
    assert {name: served.limit(name) for name in ("email", "tenant-vip", "reports", "tenant-1", "tenant-mail")} == {
        "email": None,
        "tenant-vip": 4,
        "reports": 1,
        "tenant-1": 2,
        "tenant-mail": 2,
    }
    assert [name for name in ("tenant-", "a-mail", "a-mail-b", "emails", "xtenant-1") if served.fits(name)] == [
        "tenant-",
        "a-mail",
    ]
    everything = parse_served({"*": None, "reports": 2}, [])
    assert (everything.fits("anything.at_all"), everything.limit("reports"), everything.limit("x")) == (True, 2, None)


@pytest.mark.parametrize(
    "given, what",
    [
        ({}, "must name at least one queue"),
        ([], "must name at least one queue"),
        ("email", "must be a list"),
        (["tenant-?"], "letters, digits"),
        (["tenant-[12]"], "letters, digits"),
        ({"": 2}, "letters, digits"),
        ({"x" * 49: 2}, "letters, digits"),
        ({7: 2}, "letters, digits"),
        ({"email": 0}, "at least 1"),
        ({"email": True}, "at least 1"),
        (["email:0"], "limit of a queue must be a whole number"),
        (["email:"], "limit of a queue must be a whole number"),
    ],
)
def test_queues_that_make_no_sense_are_refused(given: object, what: str) -> None:
    with pytest.raises(InvalidOption, match=what):
        parse_served(given, ["default"])  # type: ignore[arg-type]  # on purpose
