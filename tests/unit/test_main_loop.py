"""The main loop of one worker, with scripted claims: what it asks for, what it does with the answers, when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

import pytest

from rowlock import steady
from rowlock.settings import Settings
from rowlock.worker.loop import main_loop
from rowlock.worker.loop.main_loop import MOST_PENDING, MainLoop
from rowlock.worker.loop.slots import Slots
from rowlock.worker.vitals.counts import Counts
from rowlock.worker.vitals.lease import Lease, Renewals
from tests.logged import capture_logs
from tests.waiting import eventually

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.worker.attempt.attempt import Attempt

Answer = Callable[[int], Sequence[Any]]


def row() -> Record:
    return cast("Record", {"id": uuid4(), "queue": "default", "task": "work", "times": None})


def held_lease() -> Lease:
    lease = Lease(Settings(), "", renewals=Renewals(), on_lost=lambda _: None)
    lease.held_until = steady.seconds() + 3600
    return lease


class Script:
    """The claims of a loop: each claim gets the next answer, and none after the last one. All else is quiet."""

    def __init__(self, *answers: Answer) -> None:
        self._answers: Iterator[Answer] = iter(answers)
        self.asked: list[int] = []
        self.resets = self.rescans = 0
        self.pending = 0
        self.looked_until, self.took = datetime(2030, 1, 1, tzinfo=UTC), 0.0
        self.begins_anew = self.is_dry = True
        self.is_quiet = self.is_wanted = self.may_sleep = False

    async def claim(self, _worker: UUID, limit: int, _limits: Mapping[str, int], *, looks_ahead: bool) -> Sequence[Any]:
        assert not looks_ahead
        self.asked.append(limit)
        answer = next(self._answers, None)
        return [] if answer is None else answer(limit)

    def reset(self) -> None:
        self.resets += 1

    async def adopt(self, _worker: UUID, _known: object) -> list[Any]:
        return []

    def known(self) -> set[UUID]:
        return set()

    async def wait(self) -> None:
        await asyncio.sleep(0.001)

    async def _nothing(self, *_: object) -> bool:
        return False

    connect = busy = found = flush = begin = begin_if_idle = _nothing

    def rescan(self) -> None:
        self.rescans += 1

    def before_claim(self) -> None: ...

    def end(self) -> None: ...


class Stage:
    """A loop over a script, with slots whose attempts run until they are told to end."""

    def __init__(self, script: Script, concurrency: int) -> None:
        self.script = script
        self.lease = held_lease()
        self.stopping = asyncio.Event()
        self.released: list[Attempt] = []
        self.may_end = asyncio.Event()
        self.slots = Slots(concurrency, {}, self._perform, lambda: None)
        parts: Any = script
        shares: Any = [(script, None)]
        self.loop = MainLoop(
            parts,
            self.slots,
            parts,
            shares=shares,
            doze=parts,
            alone=parts,
            orders=parts,
            counts=Counts(has_kinds=False),
            lease=self.lease,
            stopping=self.stopping,
            release=lambda attempt, *_: self.released.append(attempt),
        )

    async def _perform(self, attempt: Attempt, on_end: Callable[[Attempt], None]) -> None:
        await self.may_end.wait()
        on_end(attempt)

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.Task[None]]:
        """Have the loop work, and stop it at the end of the block."""
        working = asyncio.create_task(self.loop.until_over([]))
        try:
            yield working
        finally:
            self.may_end.set()
            self.stopping.set()
            await working


def rows(count: int) -> Answer:
    return lambda _limit: [row() for _ in range(count)]


def fails(error: Exception) -> Answer:
    def answer(_limit: int) -> Sequence[Any]:
        raise error

    return answer


async def test_it_claims_for_the_free_slots_alone_and_not_while_there_are_none() -> None:
    stage = Stage(script := Script(rows(2), rows(1)), concurrency=3)
    async with stage.working():
        await eventually(lambda: stage.slots.in_use == 3)
        assert script.asked == [3, 1]
        stage.may_end.set()
        await eventually(lambda: len(script.asked) > 2)
        assert script.asked[2] >= 3, "with what is claimed ahead"


async def test_a_lost_lease_ends_it_and_what_was_claimed_meanwhile_is_given_back() -> None:
    stage = Stage(Script(rows(0)), concurrency=1)

    def lose(_limit: int) -> Sequence[Any]:
        stage.lease.is_lost = True
        return [row(), row()]

    stage.script._answers = iter([lose])
    async with stage.working() as working:
        await asyncio.wait_for(asyncio.shield(working), 10)
    assert len(stage.released) == 2
    assert not stage.slots.running


async def test_a_claim_that_fails_is_tried_again_from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_loop, "PAUSE_FIRST", 0.001)
    stage = Stage(script := Script(fails(ConnectionResetError()), rows(1)), concurrency=1)
    with capture_logs() as logs:
        async with stage.working():
            await eventually(lambda: stage.slots.in_use == 1)
    assert [entry["event"] for entry in logs] == ["claim_failed"]
    assert script.resets == 1


async def test_a_defect_is_raised_and_not_tried_again() -> None:
    stage = Stage(Script(fails(ZeroDivisionError())), concurrency=1)
    with pytest.raises(ZeroDivisionError):
        await stage.loop.until_over([])


@pytest.mark.parametrize("why", ["quiet", "outcomes pile up", "no lease for sure"])
async def test_it_claims_nothing(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main_loop, "QUIET_SECONDS", 0.001)
    monkeypatch.setattr(main_loop, "LATE_SECONDS", 0.001)
    stage = Stage(script := Script(rows(1)), concurrency=1)
    turns = 0

    async def count(**_: object) -> bool:
        nonlocal turns
        turns += 1
        await asyncio.sleep(0)
        return False

    match why:
        case "quiet":
            script.is_quiet = True
            monkeypatch.setattr(script, "busy", count)
        case "outcomes pile up":
            script.pending = MOST_PENDING
            monkeypatch.setattr(stage.slots, "changed", count)
            monkeypatch.setattr(script, "busy", lambda: asyncio.sleep(0.001))
        case _:
            stage.lease.held_until = 0.0
            monkeypatch.setattr(script, "connect", count)
    async with stage.working():
        await eventually(lambda: turns > 3)
        assert script.asked == []


async def test_a_drain_ends_once_nothing_is_due_and_nothing_runs() -> None:
    stage = Stage(script := Script(rows(2), rows(0), rows(1)), concurrency=2)
    stage.may_end.set()
    drained: Awaitable[None] = stage.loop.until_dry()
    await asyncio.wait_for(drained, 10)
    assert stage.slots.done == 3
    assert stage.slots.is_empty
    assert script.asked[-1] == 2, "it has looked once more for what the last ones enqueued"
    assert script.rescans == 2, "and behind the newest position"
