"""The mark of an idle worker: when it is set, when it is removed, and how often a worker polls meanwhile."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from rowlock.queue.jobs.identifiers import uuid7
from rowlock.settings import Settings
from rowlock.worker.loop import doze as dozing
from rowlock.worker.loop.doze import Doze


class Recorded:
    """A connection and the claims of a worker: what was asked, and how far away the next job is."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.open_queues = ("default",)
        self.has_looked_behind = True
        self.xmin, self.xmax = 7, 9
        self.next = 3600.0

    async def fetch(self, name: str, *_: object) -> list[Any]:
        self.said.append(name)
        return []

    def next_due_in(self) -> float:
        return self.next


@pytest.fixture
def recorded() -> Recorded:
    return Recorded()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which a test sets."""
    now = [1000.0]
    monkeypatch.setattr(dozing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def doze(recorded: Any, clock: list[float]) -> Doze:  # noqa: ANN401  # a Recorded
    return Doze(Settings(poll_interval=timedelta(seconds=2)), recorded, recorded, uuid7())


async def pass_time(doze: Doze, clock: list[float], seconds: float, *, found: int, heard: int) -> None:
    """So many jobs are found in the time, and so many notifications are heard."""
    for _ in range(heard):
        doze.wake("default")
    clock[0] += seconds
    await doze.found(found)


async def test_a_worker_with_few_jobs_is_marked_though_it_is_never_without_one(
    doze: Doze, recorded: Recorded, clock: list[float]
) -> None:
    await pass_time(doze, clock, 0.1, found=5, heard=0)
    await doze.wait()
    assert recorded.said == ["mark_idle"]
    await pass_time(doze, clock, 0.1, found=5, heard=5)
    assert recorded.said == ["mark_idle"]


async def test_a_worker_with_many_jobs_is_not_marked_until_it_finds_none(
    doze: Doze, recorded: Recorded, clock: list[float]
) -> None:
    await pass_time(doze, clock, 0.1, found=30, heard=0)
    await doze.wait()
    assert recorded.said == []
    clock[0] += dozing.QUIET_SECONDS
    await doze.wait()
    assert recorded.said == ["mark_idle"]


async def test_a_worker_that_hears_of_many_jobs_that_others_take_stays_without_the_mark(
    doze: Doze, recorded: Recorded, clock: list[float]
) -> None:
    await pass_time(doze, clock, 0.1, found=0, heard=0)
    await doze.wait()
    await pass_time(doze, clock, 0.1, found=2, heard=40)
    assert recorded.said == ["mark_idle", "mark_busy"]
    await pass_time(doze, clock, 1.0, found=2, heard=0)
    await doze.wait()
    assert recorded.said == ["mark_idle", "mark_busy"], "it would only wake in vain"
    await pass_time(doze, clock, 1.5, found=2, heard=0)
    await doze.wait()
    assert recorded.said == ["mark_idle", "mark_busy", "mark_idle"]


async def test_a_marked_worker_polls_rarely_and_is_awake_when_a_job_falls_due(
    doze: Doze, recorded: Recorded, clock: list[float]
) -> None:
    assert doze._longest_pause() == 2 * dozing.PAUSE_FIRST, "it looks for jobs itself"
    clock[0] += 1
    await doze.wait()
    assert recorded.said == ["mark_idle"]
    assert doze._longest_pause() == 2, "a transaction is open that may have enqueued before the mark"
    recorded.xmin = 9
    assert 3.2 <= doze._longest_pause() <= 4.8, "until it tests its hearing"
    doze._ear._test_at = 1e9
    assert doze._longest_pause() == 2 * dozing.HEARING_SHARE
    recorded.has_looked_behind = False
    assert doze._longest_pause() == 2
    recorded.next = 0.25
    assert doze._longest_pause() == 0.25


async def test_a_worker_that_cannot_listen_looks_soon_after_a_job_and_then_less_and_less_often(
    recorded: Any,  # noqa: ANN401  # a Recorded
    clock: list[float],
) -> None:
    deaf = Doze(Settings(poll_interval=timedelta(seconds=1), listen=False), recorded, recorded, uuid7())
    pauses = [deaf._longest_pause() for _ in range(12)]
    assert pauses[:3] == [2 * dozing.PAUSE_FIRST, 4 * dozing.PAUSE_FIRST, 8 * dozing.PAUSE_FIRST]
    assert pauses[-1] == 1
    await pass_time(deaf, clock, 0.1, found=1, heard=0)
    assert deaf._longest_pause() == 2 * dozing.PAUSE_FIRST
    assert recorded.said == []
