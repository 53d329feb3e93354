"""The watchdog: an event loop that does not turn is noticed while it does not, with the job and the line at fault."""

from __future__ import annotations

import asyncio
import ctypes
import time
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from rowlock import logs
from rowlock.settings import Settings
from rowlock.worker.attempt.attempt import Attempt
from rowlock.worker.vitals.lease import Lease, Renewals
from rowlock.worker.vitals.watchdog import Watchdog
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from asyncpg import Record

AFTER = 0.02


def block(entries: list[MutableMapping[str, Any]], event: str = "event_loop_blocked") -> None:
    """Hold the loop until the watchdog has said so: nobody else is there to wait."""
    secret = "s3cret"
    deadline = time.monotonic() + 10
    while not any(entry["event"] == event for entry in entries):
        assert time.monotonic() < deadline, f"not noticed: {secret}"[:11]
        time.sleep(0.001)


@asynccontextmanager
async def watching(attempts: list[Attempt], *, after: float = AFTER) -> AsyncIterator[Watchdog]:
    watchdog = Watchdog(after, lambda: attempts)
    watchdog.start()
    try:
        yield watchdog
    finally:
        watchdog.stop()
        await eventually(lambda: not watchdog._thread.is_alive())


LEASE = Lease(Settings(), "", renewals=Renewals(), on_lost=lambda _: None)


def attempt_of(job_id: UUID) -> Attempt:
    return Attempt(cast("Record", {"id": job_id, "queue": "slow", "task": "compute", "attempt": 2}), 0.0, LEASE)


async def test_a_handler_that_blocks_the_loop_is_named_with_its_stack_once_and_again_when_it_is_over() -> None:
    attempt = attempt_of(uuid4())
    with capture_logs() as entries:

        async def handler() -> None:
            block(entries)

        async with watching([attempt]) as watchdog:
            attempt.running = asyncio.create_task(handler())
            await attempt.running
            await eventually(lambda: [entry for entry in entries if entry["event"] == "event_loop_unblocked"])
            assert watchdog.delay_max >= AFTER
    blocked = [entry for entry in entries if entry["event"] == "event_loop_blocked"]
    assert len(blocked) == 1
    assert blocked[0]["seconds"] >= AFTER
    assert blocked[0]["job_id"] == str(attempt.claimed["id"])
    assert (blocked[0]["task"], blocked[0]["queue"], blocked[0]["attempt"]) == ("compute", "slow", 2)
    assert "in handler\n    block(entries)" in blocked[0]["stack"]
    assert "s3cret" not in blocked[0]["stack"].replace('secret = "s3cret"', "")
    (over,) = (entry for entry in entries if entry["event"] == "event_loop_unblocked")
    assert over["seconds"] >= blocked[0]["seconds"]


async def test_while_the_loop_is_blocked_its_delay_grows() -> None:
    async with watching([]) as watchdog:
        with capture_logs() as entries:
            block(entries)
            first = watchdog.delay
            assert first >= AFTER
            time.sleep(0.001)  # noqa: ASYNC251  # it is meant to block
            assert watchdog.delay > first
        await eventually(lambda: watchdog.delay < AFTER)


async def test_what_no_job_blocks_is_told_without_one() -> None:
    with capture_logs() as entries:
        async with watching([attempt_of(uuid4())]):
            block(entries)
    (blocked,) = (entry for entry in entries if entry["event"] == "event_loop_blocked")
    assert "job_id" not in blocked


async def test_a_task_that_a_handler_has_made_is_known_by_its_context() -> None:
    attempt = attempt_of(uuid4())
    with capture_logs() as entries:

        async def handler() -> None:
            logs.JOB.set(attempt.claimed)
            await asyncio.create_task(part())

        async def part() -> None:
            block(entries)

        async with watching([attempt]):
            attempt.running = asyncio.create_task(handler())
            await attempt.running
    (blocked,) = (entry for entry in entries if entry["event"] == "event_loop_blocked")
    if hasattr(asyncio.Task, "get_context"):  # Python 3.12
        assert blocked["task"] == "compute"
    assert "in part" in blocked["stack"]


async def test_code_that_holds_pythons_lock_is_told_of_afterwards() -> None:
    sleep_with_the_lock = ctypes.PyDLL(None).usleep
    with capture_logs() as entries:
        async with watching([]) as watchdog:

            async def told() -> bool:
                sleep_with_the_lock(60_000)
                await asyncio.sleep(0.001)
                return any(entry["event"] == "process_stalled" for entry in entries)

            await eventually(told)
            assert watchdog.delay_max >= AFTER


async def test_a_loop_that_turns_is_left_alone() -> None:
    with capture_logs() as entries:
        async with watching([], after=5.0) as watchdog:
            await eventually(lambda: watchdog.delay_max > 0)
    assert entries == []
