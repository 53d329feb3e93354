"""The slots and the batches of one worker, without a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from rowlock.queue.finish.finishes import LARGEST_BATCH, LARGEST_RESULTS, Success, _batch_size
from rowlock.settings import Settings
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.loop.slots import Executor, Slots
from rowlock.worker.vitals.lease import Lease, Renewals

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncpg import Record


LEASE = Lease(Settings(), "", renewals=Renewals(), on_lost=lambda _: None)


def row() -> Record:
    return cast("Record", {"id": uuid4(), "queue": "default"})


def success(result: str | None) -> Success:
    made = Attempt(row(), 0.0, LEASE)
    made.result = result
    return made


async def test_a_claimed_job_that_waits_too_long_for_its_slot_is_handed_out_to_be_given_back() -> None:
    release = asyncio.Event()

    async def perform(attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        await release.wait()
        on_end(attempt)

    slots = Slots(1, {}, perform, lambda: None)
    rows = [row() for _ in range(3)]
    slots.add(rows, LEASE)
    assert slots.take_ready(older_than=60) == [], "they came just now"
    waiting = slots.take_ready(older_than=0)
    assert [attempt.claimed["id"] for attempt in waiting] == [claimed["id"] for claimed in rows[1:]]
    assert slots.known() == {rows[0]["id"]}, "the one that runs stays"
    release.set()
    await asyncio.gather(*(attempt.running for attempt in slots.running if attempt.running is not None))
    assert slots.is_empty


class Stage:
    """Attempts that run until they are told."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.done: dict[str, asyncio.Event] = {}
        self.ended = asyncio.Event()

    async def perform(self, attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        name = attempt.claimed["name"]
        self.began.append(name)
        await self.done.setdefault(name, asyncio.Event()).wait()
        on_end(attempt)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    async def end(self, name: str) -> None:
        self.done.setdefault(name, asyncio.Event()).set()
        await self.settle()


def named(name: str, task: str) -> Record:
    return cast("Record", {"id": uuid4(), "queue": "default", "task": task, "name": name})


async def test_what_no_executor_is_free_for_waits_and_what_needs_none_goes_by() -> None:
    stage, executor = Stage(), Executor(["heavy"], 1)
    slots = Slots(3, {}, stage.perform, lambda: None, [executor])
    slots.add([named("a", "heavy"), named("b", "heavy"), named("c", "light"), named("d", "light")], LEASE)
    await stage.settle()
    assert (stage.began, slots.ahead, slots.in_use) == (["a", "c", "d"], 1, 3)
    assert (slots.room(executor), slots.room()) == (0, 0), "nothing more is claimed for it"
    await stage.end("c")
    assert (stage.began, slots.room(executor), slots.room()) == (["a", "c", "d"], 0, 1)
    await stage.end("a")
    assert (stage.began[3:], executor.in_use, executor.waiting) == (["b"], 1, 0)
    await stage.end("b")
    await stage.end("d")
    assert slots.is_empty
    assert executor.in_use == 0


async def test_what_waits_for_an_executor_is_handed_out_to_be_given_back() -> None:
    stage, executor = Stage(), Executor(["heavy"], 1)
    slots = Slots(3, {}, stage.perform, lambda: None, [executor])
    slots.add([named("a", "heavy"), named("b", "heavy"), named("c", "heavy")], LEASE)
    await stage.settle()
    (first,) = slots.take_surplus({"default"})[:1]
    assert (first.claimed["name"], executor.in_use, executor.waiting) == ("c", 1, 0)
    slots.add([named("d", "heavy")], LEASE)
    assert executor.waiting == 1
    assert [attempt.claimed["name"] for attempt in slots.take_ready()] == ["d"]
    assert executor.waiting == 0
    await stage.end("a")
    assert slots.is_empty


async def test_an_executor_with_room_for_all_slots_does_not_bind() -> None:
    stage, executor = Stage(), Executor(["heavy"], 2)
    slots = Slots(2, {}, stage.perform, lambda: None, [executor])
    assert not slots.binding
    slots.add([named("a", "heavy"), named("b", "heavy"), named("c", "heavy")], LEASE)
    await stage.settle()
    slots.resize(4, {}, ())
    await stage.settle()
    assert (len(slots.binding), executor.in_use, executor.waiting) == (1, 2, 1)
    assert (stage.began, slots.in_use) == (["a", "b"], 2)
    for name in "abc":
        await stage.end(name)
    assert slots.is_empty
    assert executor.in_use == 0


def test_large_results_go_out_in_several_statements_and_each_takes_at_least_one() -> None:
    half = "x" * (LARGEST_RESULTS // 2)
    assert _batch_size([success(half)] * 5) == 2
    assert _batch_size([success("x" * (LARGEST_RESULTS + 1))] * 3) == 1
    assert _batch_size([success(None)] * 5) == LARGEST_BATCH
