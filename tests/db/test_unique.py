"""Unique keys: at most one job holds a key at every commit point, whoever writes, and nobody waits who need not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from rowlock import Cancel, Fail, Job, Retry, Rowlock, Settings, Snooze
from tests.waiting import eventually

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

ROUNDS = 10
RACERS = 8


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


@pytest.fixture
async def racers(direct_url: str) -> AsyncIterator[list[Connection]]:
    opened = [await asyncpg.connect(direct_url) for _ in range(RACERS)]
    yield opened
    for connection in opened:
        connection.terminate()


async def holder_of(connection: Connection, key: str) -> UUID | None:
    found: UUID | None = await connection.fetchval("SELECT job_id FROM rowlock.unique_key WHERE key = $1", key)
    return found


async def is_waiting(observer: Connection, waiter: Connection) -> bool:
    waits: bool | None = await observer.fetchval(
        "SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = $1", waiter.get_server_pid()
    )
    return bool(waits)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_one_job_holds_a_key_whatever_the_racers_commit_and_roll_back(
    seed: int, app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    rng = random.Random(seed)

    async def race(racer: Connection, key: str, way: str, pause: float, *, commits: bool) -> UUID | None:
        transaction = racer.transaction()
        await transaction.start()
        task = send.using(unique=key, connection=racer)
        if way == "sql":
            told: UUID = await racer.fetchval("SELECT rowlock.enqueue('send', '{\"n\": 0}', unique_key => $1)", key)
        elif way == "task":
            told = (await task.enqueue(0)).id
        else:
            jobs = [send.using(unique=key).job(n) for n in (1, 2)]
            handles = await app.enqueue_many(jobs, connection=racer)
            told = handles[0].id
            assert handles[1].id == told
        await racer.execute(f"SELECT pg_sleep({pause})")
        await (transaction.commit() if commits else transaction.rollback())
        return told if commits else None

    outcomes = set()
    for number in range(ROUNDS):
        key, share = f"k{number}", rng.choice([0.0, 0.2, 0.5, 1.0])
        told = await asyncio.wait_for(
            asyncio.gather(
                *(
                    race(
                        racer,
                        key,
                        rng.choice(["sql", "task", "many"]),
                        rng.uniform(0, 0.01),
                        commits=rng.random() < share,
                    )
                    for racer in racers
                )
            ),
            30,
        )
        committed = {job for job in told if job is not None}
        live = await connection.fetch("SELECT id FROM rowlock.job WHERE unique_key = $1", f"send:{key}")
        assert {row["id"] for row in live} == committed, "who committed was told of the one job that is there"
        assert len(live) == bool(committed)
        assert await holder_of(connection, f"send:{key}") == (live[0]["id"] if live else None)
        outcomes.add(len(live))
    assert outcomes == {0, 1}, "the seed shows both"


@pytest.mark.parametrize("commits", [True, False], ids=["commits", "rolls back"])
async def test_the_loser_waits_for_the_winner_s_transaction(
    commits: bool, app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    winner, *losers = racers[:4]
    transaction = winner.transaction()
    await transaction.start()
    first = await send.using(unique="k", connection=winner).enqueue()

    async def lose(loser: Connection) -> tuple[UUID, bool]:
        async with loser.transaction():
            handle = await send.using(unique="k", connection=loser).enqueue()
            return handle.id, handle.is_duplicate

    waiting = [asyncio.create_task(lose(loser)) for loser in losers]
    for loser in losers:
        await eventually(lambda loser=loser: is_waiting(connection, loser))  # type: ignore[misc]
    assert not any(task.done() for task in waiting)
    await (transaction.commit() if commits else transaction.rollback())
    told = await asyncio.wait_for(asyncio.gather(*waiting), 10)
    holders = {job for job, _ in told}
    assert len(holders) == 1, "all are told of the same job"
    assert (holders == {first.id}) is commits
    assert sorted(is_duplicate for _, is_duplicate in told) == ([True] * 3 if commits else [False, True, True])
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 1


async def test_a_key_is_free_again_once_its_job_has_ended_however_it_ended(
    app: Rowlock, connection: Connection
) -> None:
    @app.task(max_attempts=1)
    async def end(how: str) -> None:
        ends: dict[str, Exception] = {"cancel": Cancel(), "fail": Fail("no"), "error": ValueError("no")}
        if how in ends:
            raise ends[how]

    for how in ("succeed", "cancel", "fail", "error"):
        first = await end.using(unique=how).enqueue(how)
        assert (await end.using(unique=how).enqueue(how)).is_duplicate
        await app.worker().drain()
        assert await holder_of(connection, f"end:{how}") is None, how
        finished = await first.get()
        assert (finished.is_finished, finished.unique_key) == (True, f"end:{how}")
        second = await end.using(unique=how).enqueue(how)
        assert not second.is_duplicate
        [third] = await app.enqueue_many([end.using(unique=how).job(how)])
        assert third.id == second.id
        await app.worker().drain()


async def test_a_job_that_is_tried_again_keeps_its_key(app: Rowlock, connection: Connection) -> None:
    @app.task(backoff=60)
    async def again(job: Job, how: str) -> None:
        ends: dict[str, Exception] = {"retry": Retry(60), "snooze": Snooze(60), "error": ValueError("no")}
        raise ends[how]

    for how in ("retry", "snooze", "error"):
        first = await again.using(unique=how).enqueue(how)
        await app.worker().drain()
        assert (await first.get()).attempt == 1
        second = await again.using(unique=how).enqueue(how)
        assert (second.id, second.is_duplicate) == (first.id, True), how


async def test_keys_of_different_tasks_do_not_collide(app: Rowlock) -> None:
    @app.task
    async def send() -> None: ...

    @app.task(name="send.a")
    async def other() -> None: ...

    handles: list[Any] = [
        await send.using(unique="a").enqueue(),
        await other.using(unique="a").enqueue(),
        await send.using(unique="A").enqueue(),
        await send.using(unique="a ").enqueue(),
        *await app.enqueue_many([send.using(unique="b").job(), other.using(unique="b").job()]),
    ]
    assert len({handle.id for handle in handles}) == 6
    assert not any(handle.is_duplicate for handle in handles)


async def test_two_bulk_enqueues_of_the_same_keys_in_opposite_orders_do_not_lock_each_other_out(
    app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    @app.task
    async def send(n: int) -> None: ...

    async def enqueue(keys: list[str], caller: Connection | None) -> int:
        jobs = [send.using(unique=key).job(n) for n, key in enumerate(keys)]
        if caller is None:
            return sum(not handle.is_duplicate for handle in await app.enqueue_many(jobs))
        async with caller.transaction():
            handles = await app.enqueue_many(jobs, connection=caller)
        return sum(not handle.is_duplicate for handle in handles)

    rng = random.Random(7)
    for number in range(10):
        keys = [f"{number}-{n}" for n in range(60)]
        shuffled = rng.sample(keys, len(keys))
        orders = [keys, keys[::-1], shuffled, shuffled[::-1]]
        callers = [None, racers[0], racers[1], None]
        stored = await asyncio.wait_for(
            asyncio.gather(*(enqueue(*pair) for pair in zip(orders, callers, strict=True))), 30
        )
        assert sum(stored) == 60, "each key once"
    assert await connection.fetchval("SELECT count(*) FROM rowlock.job") == 600


async def test_a_transaction_that_lost_a_key_does_not_hold_up_its_holder(
    app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    first = await send.using(unique="k").enqueue()
    losers = racers[:3]
    transactions = [loser.transaction() for loser in losers]
    for transaction in transactions:
        await transaction.start()
    lost = [
        (await send.using(unique="k", connection=losers[0]).enqueue()).id,
        (await app.enqueue_many([send.using(unique="k").job()], connection=losers[1]))[0].id,
        await losers[2].fetchval("SELECT rowlock.enqueue('send', unique_key => 'k')"),
    ]
    assert lost == [first.id] * 3

    assert await asyncio.wait_for(app.worker().drain(), 10) == 1
    assert (await first.get()).state == "succeeded"
    second = await asyncio.wait_for(send.using(unique="k").enqueue(), 10)
    assert not second.is_duplicate, "the key is free while the losers' transactions are still open"
    for transaction in transactions:
        await transaction.commit()
    assert await holder_of(connection, "send:k") == second.id


async def test_who_lost_a_key_and_asks_again_after_its_holder_ended_has_it(
    app: Rowlock, racers: list[Connection], connection: Connection
) -> None:
    @app.task
    async def send() -> None: ...

    await send.using(unique="k").enqueue()
    async with racers[0].transaction():
        assert (await send.using(unique="k", connection=racers[0]).enqueue()).is_duplicate
        await app.worker().drain()
        again = await send.using(unique="k", connection=racers[0]).enqueue()
        assert not again.is_duplicate
    assert await holder_of(connection, "send:k") == again.id


async def test_a_rolled_back_holder_leaves_its_key_free(app: Rowlock, connection: Connection) -> None:
    @app.task
    async def send() -> None: ...

    transaction = connection.transaction()
    await transaction.start()
    await send.using(unique="k", connection=connection).enqueue()
    await transaction.rollback()
    assert not (await asyncio.wait_for(send.using(unique="k").enqueue(), 10)).is_duplicate
