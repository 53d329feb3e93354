"""Few jobs take few statements, and an idle worker takes hardly any."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

import pytest

from rowlock import Rowlock, Settings
from rowlock.queue.connect.sessions import ControlConnection
from tests.waiting import eventually

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]

pytestmark = pytest.mark.needs_session("without notifications a worker polls")


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The statements of all control connections, from now on."""
    sent, fetch = Counter[str](), ControlConnection.fetch

    async def counted(self: ControlConnection, name: str, *parameters: object) -> list[asyncpg.Record]:
        sent[name] += 1
        return await fetch(self, name, *parameters)

    monkeypatch.setattr(ControlConnection, "fetch", counted)
    return sent


async def test_a_job_that_comes_alone_takes_a_claim_and_a_finish(
    settings: Settings, sent: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rowlock.worker.loop.doze.BUSY_JOBS_PER_SECOND", 1e9)  # they come one by one, but fast
    done = asyncio.Event()
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> None:
            done.set()

        async with app.worker() as worker:
            await eventually(lambda: worker._shift.doze._hears_all)
            sent.clear()
            for number in range(1, 21):
                done.clear()
                await work.enqueue()
                await done.wait()
                await eventually(lambda number=number: sent["succeed"] == number)  # type: ignore[misc]
                await worker._shift.finishes.flush()
    assert sent["succeed"] == 20
    assert 20 <= sent["claim"] <= 26, "one for each notification, and now and then one of its own"


async def test_an_idle_worker_sends_about_one_statement_a_second(settings: Settings, sent: Counter[str]) -> None:
    seconds = 6
    async with Rowlock(settings=settings) as app:

        @app.task
        async def work() -> None: ...

        async with app.worker() as worker:
            await eventually(lambda: worker._shift.doze._hears_all)
            await eventually(lambda: sent["forget_workers"] and not worker._shift.duties._begun)
            sent.clear()
            await asyncio.sleep(seconds)
            assert sent.total() <= 1.5 * seconds + 2, sent  # the first and the last second may have one more each
            assert set(sent) <= {"look", "claim", "renew_lease", "test_listening", "claim_duties"}
