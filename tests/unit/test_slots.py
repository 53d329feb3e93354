"""The slots and the batches of one worker, without a database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast
from uuid import uuid4

from rowlock.queue.finishes import LARGEST_BATCH, LARGEST_RESULTS, Success, _batch_size
from rowlock.settings import Settings
from rowlock.worker.attempts import Attempt
from rowlock.worker.lease import Lease, Renewals
from rowlock.worker.slots import Slots

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


def test_large_results_go_out_in_several_statements_and_each_takes_at_least_one() -> None:
    half = "x" * (LARGEST_RESULTS // 2)
    assert _batch_size([success(half)] * 5) == 2
    assert _batch_size([success("x" * (LARGEST_RESULTS + 1))] * 3) == 1
    assert _batch_size([success(None)] * 5) == LARGEST_BATCH
