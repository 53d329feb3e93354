"""The duties of one worker, with a scripted connection: they take turns, and one that fails stops no other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from rowlock.settings import Settings
from rowlock.worker.duties import keys, overdue, rescue, runner
from rowlock.worker.duties.retention import RetentionDuty
from rowlock.worker.duties.runner import Duties
from rowlock.worker.vitals.counts import Counts
from tests.logged import capture_logs
from tests.waiting import eventually

Answers = Mapping[str, Callable[..., Sequence[Any]]]


class Script:
    """A connection that answers by functions of the statements' names, and notes what was asked."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def fetch(self, name: str, *parameters: Any) -> Sequence[Any]:  # noqa: ANN401  # whatever they take
        self.asked.append(name)
        await asyncio.sleep(0)
        answer = self._answers.get(name)
        return [] if answer is None else answer(*parameters)


def made(script: Script, *, may_be_wanted: bool = True) -> Duties:
    connection: Any = script
    database: Any = SimpleNamespace(settings=Settings())
    claims: Any = SimpleNamespace(apart=())
    alone: Any = SimpleNamespace(may_be_wanted=may_be_wanted)
    return Duties(connection, database, claims, alone=alone, counts=Counts(has_kinds=False))


def each_once(*names: str) -> Callable[..., Sequence[Any]]:
    """Answers of `claim_duties`: one of these a time, in their order."""
    left = list(names)
    return lambda wanted: [{"name": left.pop(0)}] if left and left[0] in wanted else []


async def work(duties: Duties, until: Callable[[], bool]) -> None:
    """Run them, and notice again and again that all are due."""
    running = asyncio.create_task(duties.run())

    def is_so() -> bool:
        duties.notice(duties.wanted)
        return until()

    await eventually(is_so)
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


def overdue_row(_most: int) -> Sequence[Any]:
    return [{"id": uuid4(), "state": "expired"}]


async def test_duties_take_turns_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overdue, "BATCH", 1)
    monkeypatch.setattr(rescue, "BATCH", 0)
    script = Script({"claim_duties": each_once("overdue", "rescue"), "end_overdue": overdue_row})
    await work(made(script), lambda: script.asked.count("rescue") >= 5)
    turns = [name for name in script.asked if name in {"end_overdue", "rescue"}]
    begun = turns.index("rescue")
    assert turns[begun : begun + 8] == ["rescue", "end_overdue"] * 4


async def test_a_duty_that_waits_for_a_lock_is_over_and_the_next_one_goes_on() -> None:
    def locked(*_: object) -> Sequence[Any]:
        raise asyncpg.LockNotAvailableError("canceling statement due to lock timeout")

    script = Script({"claim_duties": each_once("progress", "waiters"), "forget_progress": locked})
    with capture_logs() as logs:
        await work(made(script), lambda: "forget_waiters" in script.asked)
    assert [(entry["event"], entry["duty"]) for entry in logs] == [("duty_postponed", "progress")]
    assert script.asked.count("forget_progress") == 1


async def test_a_lost_connection_ends_the_round_and_the_next_one_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "PAUSE_FIRST", 0.001)
    monkeypatch.setattr(runner, "PAUSE_MOST", 0.001)
    failures = [ConnectionResetError()] * 2

    def claim(*_: object) -> Sequence[Any]:
        if failures:
            raise failures.pop()
        return []

    script = Script({"claim_duties": claim})
    with capture_logs() as logs:
        await work(made(script), lambda: script.asked.count("claim_duties") >= 4)
    assert [entry["event"] for entry in logs] == ["duties_failed"] * 2


@pytest.mark.parametrize("may_be_wanted", [True, False])
async def test_a_worker_that_may_not_run_suspects_does_not_claim_their_duty(*, may_be_wanted: bool) -> None:
    wanted: list[str] = []

    def claim(names: Sequence[str]) -> Sequence[Any]:
        wanted[:] = names
        return []

    await work(made(Script({"claim_duties": claim}), may_be_wanted=may_be_wanted), lambda: bool(wanted))
    assert ("suspects" in wanted) is may_be_wanted
    assert {"rescue", "overdue", "results"} <= set(wanted)


async def test_a_rescue_goes_on_until_a_batch_is_not_full_and_counts_what_it_took(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rescue, "BATCH", 2)
    batches = [2, 2, 1]

    def rescued(_crashes: int, _most: int, _orphans: bool) -> Sequence[Any]:  # a statement's
        return [_rescued(is_quarantined=number == 1) for number in range(batches.pop(0))]

    script, counts = Script({"rescue": rescued}), Counts(has_kinds=False)
    connection: Any = script
    steps = [step async for step in rescue.rescue(connection, counts, max_crashes=3)]
    assert len(steps) == 2, "others had their turn twice"
    assert (counts.rescued, counts.quarantined) == (5, 2)
    assert script.asked[-1] == "forget_workers"


def _rescued(*, is_quarantined: bool) -> dict[str, Any]:
    return {
        "id": UUID(int=1),
        "queue": "default",
        "task": "work",
        "attempt": 1,
        "worker": UUID(int=2),
        "is_quarantined": is_quarantined,
    }


async def test_a_removal_that_falls_due_while_one_runs_is_done_after_it() -> None:
    """The rules of retention may have changed since the one that runs has read them."""
    script = Script({"retain_default": lambda *_: [{"removed": 0}]})
    connection: Any = script
    database: Any = SimpleNamespace(run=script.fetch)
    duty = RetentionDuty(connection, database)
    await duty.begin()
    await eventually(lambda: "due_days" in script.asked)
    await duty.begin()
    await eventually(lambda: script.asked.count("empty_days") == 2)
    await duty.stop()
    assert script.asked.count("due_days") == 2


async def test_keys_of_one_kind_that_fail_keep_the_others_from_nothing() -> None:
    def fails(_most: int) -> Sequence[Any]:
        raise asyncpg.DataError("no")

    def one(_most: int) -> Sequence[Any]:
        return [{"forgotten": 1}]

    script = Script({"forget_unique_keys": fails, "forget_idempotency_keys": one, "forget_sessions": one})
    connection: Any = script
    with capture_logs() as logs:
        assert [step async for step in keys.forget_keys(connection)] == []
    assert script.asked == ["forget_unique_keys", "forget_idempotency_keys", "forget_sessions"]
    assert [(entry["event"], entry["statement"]) for entry in logs] == [("duty_failed", "forget_unique_keys")]
