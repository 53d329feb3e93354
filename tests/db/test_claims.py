"""The claims: nothing is missed whatever transactions do, limits hold, and dead rows are not read again."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from rowlock.queue.claim.claims import MOST_QUEUES, Claims
from rowlock.queue.claim.cursors import BEGINNING, Lane
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.connect.statements import statement
from rowlock.settings import Settings
from tests.db.claimants import CLAIMANT, register
from tests.waiting import eventually


@pytest.fixture(autouse=True)
async def _registered(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    await register(connection)


@asynccontextmanager
async def claims_of(settings: Settings, *queues: str) -> AsyncIterator[Claims]:
    assert settings.database_url is not None
    connection = ControlConnection(settings, settings.database_url, purpose="claim")
    try:
        yield Claims(connection, queues or ("default",), ["noop"])
    finally:
        await connection.close()


async def enqueue(connection: asyncpg.Connection[asyncpg.Record], task: str = "noop", **options: object) -> UUID:
    named = "".join(f", {name} => ${number}" for number, name in enumerate(options, 2))
    job: UUID = await connection.fetchval(f"SELECT rowlock.enqueue($1{named})", task, *options.values())
    return job


class Race:
    """Enqueuers whose transactions last a random time, and claimers that take what they see."""

    def __init__(self, settings: Settings, seed: int, *, longest: float) -> None:
        self.settings = settings
        self.random = random.Random(seed)
        self.longest = longest
        self.committed: set[UUID] = set()
        self.claimed: list[UUID] = []
        self.enqueuing = True

    async def enqueue_until(self, deadline: float) -> None:
        connection = await asyncpg.connect(self.settings.database_url)
        try:
            while time.monotonic() < deadline:
                transaction = connection.transaction()
                await transaction.start()
                if self.random.random() < 0.5:
                    await connection.fetch("SELECT 1")  # a snapshot, and no transaction id
                    await asyncio.sleep(self.random.uniform(0, self.longest))
                jobs = {await enqueue(connection, priority=self.random.choice([4, 5])) for _ in range(3)}
                await asyncio.sleep(self.random.uniform(0, self.longest))
                if self.random.random() < 0.25:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    self.committed |= jobs
        finally:
            await connection.close()

    async def claim_all(self) -> None:
        async with claims_of(self.settings) as claims:
            worker, quiet_since = CLAIMANT, time.monotonic()
            while self.enqueuing or time.monotonic() - quiet_since < 2 * self.longest + 1:
                rows = await claims.claim(worker, self.random.choice([1, 10, 100]), {})
                self.claimed += [row["id"] for row in rows]
                if rows:
                    quiet_since = time.monotonic()
                await asyncio.sleep(self.random.uniform(0, 0.005))

    async def run(self, *, enqueuers: int, claimers: int, seconds: float) -> None:
        claiming = [asyncio.create_task(self.claim_all()) for _ in range(claimers)]
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(self.enqueue_until(deadline) for _ in range(enqueuers)))
        self.enqueuing = False
        await asyncio.gather(*claiming)


@pytest.mark.parametrize("seed", [1, 2])
async def test_no_committed_job_is_missed_and_none_is_claimed_twice(seed: int, settings: Settings) -> None:
    race = Race(settings, seed, longest=0.3)
    await race.run(enqueuers=20, claimers=2, seconds=4)
    assert len(race.claimed) > 100
    assert len(race.claimed) == len(set(race.claimed)), "claimed twice"
    assert set(race.claimed) == race.committed


async def test_nothing_is_missed_while_a_long_writing_transaction_is_open(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with connection.transaction():
        await connection.fetchval("SELECT pg_current_xact_id()")
        race = Race(settings, 3, longest=0.2)
        await race.run(enqueuers=10, claimers=2, seconds=3)
    assert set(race.claimed) == race.committed


async def test_a_claim_rolled_back_by_another_worker_is_found_again(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    first = await enqueue(connection)
    other = await asyncpg.connect(settings.database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute("SELECT FROM rowlock.job FOR UPDATE")  # as far as another worker's claim has got
    async with claims_of(settings) as claims:
        for _ in range(5):
            later = await enqueue(connection)
            assert [row["id"] for row in await claims.claim(CLAIMANT, 10, {})] == [later]
        await transaction.rollback()
        await other.close()

        async def found() -> list[UUID]:
            return [row["id"] for row in await claims.claim(CLAIMANT, 10, {})]

        assert await eventually(found) == [first]


async def test_the_cursor_follows_the_jobs_so_that_dead_rows_are_not_read_again(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    lane = Lane("default", 5)
    async with claims_of(settings) as claims:
        for _ in range(5):
            job = await enqueue(connection)
            rows = await claims.claim(CLAIMANT, 10, {})
            assert [row["id"] for row in rows] == [job]
        settled = claims.settled[lane]
        assert BEGINNING < settled < claims.groups[0].cursors.start(lane, rescan=False)


async def test_a_queue_found_empty_is_not_read_from_the_beginning_again(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with claims_of(settings) as claims:
        await enqueue(connection, priority=5)
        assert len(await claims.claim(CLAIMANT, 10, {})) == 1
        for _ in range(3):  # work at another priority gives the claims their transaction ids
            await enqueue(connection, priority=9)
            await claims.claim(CLAIMANT, 10, {})
        assert claims.settled[Lane("default", 0)] > BEGINNING, "never a job there, and still it moves on"


async def test_a_claim_takes_no_more_than_it_asked_for(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    for priority in range(10):
        for queue in ("default", "reports"):
            for _ in range(5):
                await enqueue(connection, queue=queue, priority=priority)
    async with claims_of(settings, "default", "reports") as claims:
        assert len(await claims.claim(CLAIMANT, 7, {})) == 7
        rows = await claims.claim(CLAIMANT, 50, {"reports": 2})
        assert [row["queue"] for row in rows].count("reports") == 2
        assert len(rows) == 45
        assert not [row for row in await claims.claim(CLAIMANT, 50, {"reports": 0}) if row["queue"] == "reports"]


async def test_the_urgent_come_first_and_of_those_the_oldest(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    expected: dict[int, list[UUID]] = {}
    for priority in (3, 9, 0, 9, 3, 5):
        expected.setdefault(priority, []).append(await enqueue(connection, priority=priority))
    async with claims_of(settings) as claims:
        rows = await claims.claim(CLAIMANT, 100, {})
    assert [row["id"] for row in rows] == [job for priority in (9, 5, 3, 0) for job in expected[priority]]


async def test_a_job_of_an_unknown_task_stays_queued(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await enqueue(connection, "of_another_deploy")
    async with claims_of(settings) as claims:
        assert await claims.claim(CLAIMANT, 10, {}) == []
    assert await connection.fetchval("SELECT state FROM rowlock.job") == "queued"


async def test_a_job_is_not_claimed_before_it_is_due(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await connection.fetchval("SELECT rowlock.enqueue('noop', delay => '1 hour')")
    async with claims_of(settings) as claims:
        assert await claims.claim(CLAIMANT, 10, {}) == []
        assert claims.next_due_in() == math.inf
        assert await claims.claim(CLAIMANT, 10, {}, looks_ahead=True) == []
        assert 3500 < claims.next_due_in() <= 3600


async def test_the_safety_net_sees_what_lies_behind_the_settled_cursors(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async with claims_of(settings) as claims:
        for _ in range(5):
            await enqueue(connection)
            await claims.claim(CLAIMANT, 10, {})

        async def is_left_behind() -> bool:
            settled = claims.settled
            found: bool = await connection.fetchval(
                statement("late", "rowlock"),
                [lane.queue for lane in settled],
                [lane.priority for lane in settled],
                [position.run_at for position in settled.values()],
                [position.id for position in settled.values()],
                ["noop"],
                claims.last_chance,
            )
            return found

        assert not await is_left_behind()
        await connection.execute(  # as if the server's clock had stepped back
            "INSERT INTO rowlock.job (id, task, run_at) VALUES (rowlock.uuid7(), 'noop', now() - interval '1 hour')"
        )
        assert await claims.claim(CLAIMANT, 10, {}) == []
        assert await is_left_behind()
        claims.reset()
        assert len(await claims.claim(CLAIMANT, 10, {})) == 1


class Statements:
    """How many queues each claim looked at, in their order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queues: list[int] = []
        fetch = ControlConnection.fetch

        async def counted(control: ControlConnection, name: str, *parameters: Any) -> list[asyncpg.Record]:  # noqa: ANN401
            if name == "claim":
                self.queues.append(len(parameters[4]))
            return await fetch(control, name, *parameters)

        monkeypatch.setattr(ControlConnection, "fetch", counted)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> Statements:
    return Statements(monkeypatch)


MANY = [f"tenant-{number:03}" for number in range(100)]


async def test_no_claim_looks_at_more_queues_than_it_can_at_once(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record], statements: Statements
) -> None:
    jobs = {await enqueue(connection, queue=queue) for queue in MANY}
    async with claims_of(settings, *MANY) as claims:
        assert claims.begins_anew
        found = list[UUID]()
        while not claims.is_dry:
            found += [row["id"] for row in await claims.claim(CLAIMANT, 1000, {})]
        assert (len(found), set(found)) == (len(jobs), jobs)
        assert claims.begins_anew
        assert await claims.claim(CLAIMANT, 1000, {}) == []
        assert claims.is_dry
    assert sum(statements.queues) == 200, "each claim goes on where the one before it stopped"
    assert max(statements.queues) == MOST_QUEUES


async def test_no_queue_waits_for_ever_behind_others_that_are_full(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    for queue in MANY[:-1]:
        await enqueue(connection, queue=queue)
        await enqueue(connection, queue=queue)
    last = await enqueue(connection, queue=MANY[-1])
    async with claims_of(settings, *MANY) as claims:
        found = list[UUID]()
        for _ in range(len(MANY)):
            found += [row["id"] for row in await claims.claim(CLAIMANT, 1, {})]
            assert not claims.is_dry
    assert last in found


async def test_queues_in_which_nothing_was_due_come_last_while_others_have_work(
    settings: Settings,
    connection: asyncpg.Connection[asyncpg.Record],
    statements: Statements,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rowlock.queue.claim.claims.REST_SHARE", 1e9)
    for _ in range(5):
        await enqueue(connection, queue=MANY[-1])
    async with claims_of(settings, *MANY) as claims:
        for looks in (4, 1, 1):
            del statements.queues[:]
            assert len(await claims.claim(CLAIMANT, 1, {})) == 1
            assert len(statements.queues) == looks
        late = await enqueue(connection, queue=MANY[0])
        assert len(await claims.claim(CLAIMANT, 2, {})) == 2
        (row,) = await claims.claim(CLAIMANT, 2, {})
        assert row["id"] == late, "what rests is looked at all the same once nothing else is due"


async def test_queues_that_come_and_go_leave_no_more_groups_than_they_need(settings: Settings) -> None:
    async with claims_of(settings, *MANY) as claims:
        assert [len(group.queues) for group in claims.groups] == [32, 32, 32, 4]
        claims.serve(MANY[:40])
        assert sorted(claims.queues) == MANY[:40]
        claims.serve(MANY[31:34])
        assert sorted(claims.queues) == MANY[31:34]
        assert len(claims.groups) == 2
        claims.serve([])
        assert (claims.queues, len(claims.groups)) == ([], 1)
        assert await claims.claim(CLAIMANT, 1, {}) == []
        claims.serve(MANY)
        assert sorted(claims.queues) == MANY
        assert max(len(group.queues) for group in claims.groups) == MOST_QUEUES
