"""Two versions of the code at work at once, while jobs of both come in: a deploy, its rollback, the deploy again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import pytest

from rowlock import NewJob, Rowlock, Settings
from tests.acceptance import bank_after, bank_before
from tests.acceptance.processes import worker
from tests.waiting import eventually

PAUSE = 0.02
WORKERS = 2


@pytest.fixture
async def app(settings: Settings) -> AsyncIterator[Rowlock]:
    async with Rowlock(settings=settings) as opened:
        yield opened


class Load:
    """What enqueuers of both versions enqueue, job by job: `sent` has each job's id, and the call that it was."""

    def __init__(self, app: Rowlock) -> None:
        self._app = app
        self.sent: dict[UUID, tuple[str, int]] = {}
        self.is_new_code_out = self.is_over = False

    async def run(self) -> None:
        while not self.is_over:
            await self.enqueue_some()
            await asyncio.sleep(PAUSE)

    async def enqueue_some(self) -> None:
        number = len(self.sent)
        calls: dict[str, NewJob[Any]] = {
            "charge 1": bank_before.charge.job(number, euros=number),
            "note": bank_before.note.job(str(number)),
            "audit": bank_before.audit.job(number),
        }
        if self.is_new_code_out:
            calls |= {
                "charge 2": bank_after.charge.job(number, cents=number),
                "note 2": bank_after.note.job(str(number)),
                "refund": bank_after.refund.job(number),
            }
        for call, job in calls.items():
            self.sent[(await self._app.enqueue_many([job]))[0].id] = (call, number)


class Fleet:
    """The workers: so many, of one code, replaced one by one."""

    def __init__(self, app: Rowlock, settings: Settings, stack: AsyncExitStack) -> None:
        self._app = app
        self._settings = settings
        self._stack = stack
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self, of: str) -> None:
        process = await self._stack.enter_async_context(worker(self._settings, of=of, ROWLOCK_POLL_INTERVAL="0.1"))
        self._running.append(process)

        async def is_there() -> bool:
            async with self._app.database.connection() as connection:
                alive = "SELECT count(*) FROM rowlock.worker WHERE pid = $1 AND expires_at > now()"
                return bool(await connection.fetchval(alive, process.pid))

        await eventually(is_there, 20.0)

    async def replace_all(self, by: str) -> None:
        for old in list(self._running):
            await self.start(by)
            old.terminate()
            assert await old.wait() == 0
            self._running.remove(old)


@pytest.mark.slow
async def test_no_job_fails_for_the_sake_of_a_deploy_or_its_rollback(settings: Settings, app: Rowlock) -> None:
    load = Load(app)
    async with AsyncExitStack() as stack:
        fleet = Fleet(app, settings, stack)
        for _ in range(WORKERS):
            await fleet.start("bank_before")
        enqueuer = asyncio.create_task(load.run())
        try:
            load.is_new_code_out = True  # some enqueuers are faster than all workers
            await fleet.replace_all("bank_after")
            assert await reasons(app, "audit", 1) == "no_task", "the old code's last jobs wait, and are reported"
            await fleet.replace_all("bank_before")
            assert await reasons(app, "charge", 2) == "no_version"
            assert await reasons(app, "refund", 1) == "no_task"
            await done(app, [job for job, (call, _) in load.sent.items() if call in {"charge 1", "note", "audit"}])
        finally:
            load.is_over = True
            await enqueuer  # not cancelled: it would not know what it has enqueued
        await done(app, [job for job, (call, _) in load.sent.items() if call == "audit"])
        await fleet.start("bank_after")
        await done(app, list(load.sent))
    await check(app, load)


async def reasons(app: Rowlock, task: str, version: int) -> str:
    """Why nobody takes the jobs of this task and version: as soon as any waits."""

    async def why() -> str | None:
        kinds = await app.unclaimed()
        return next((kind.why for kind in kinds if (kind.task, kind.args_version) == (task, version)), None)

    return await eventually(why)


async def done(app: Rowlock, jobs: list[UUID]) -> None:
    async def are_done() -> bool:
        async with app.database.connection() as connection:
            left = await connection.fetchval("SELECT count(*) FROM rowlock.job WHERE id = ANY($1)", jobs)
        return bool(left == 0)

    await eventually(are_done, 20.0)


async def check(app: Rowlock, load: Load) -> None:
    async with app.database.connection() as connection:
        rows = await connection.fetch("SELECT id, state, errors, crashes, result::text FROM rowlock.finished_job")
        failures = await connection.fetchval("SELECT count(*) FROM rowlock.attempt WHERE outcome <> 'released'")
    assert len(rows) == len(load.sent), "none is lost, none is there twice"
    assert {(row["state"], row["errors"], row["crashes"]) for row in rows} == {("succeeded", 0, 0)}
    assert failures == 0
    jobs = {job.id: job for job in [await app.get(row["id"]) for row in rows]}
    codes: set[tuple[str, int]] = set()
    for job_id, (call, number) in load.sent.items():
        result = jobs[job_id].result
        by_code = {
            1: {"code": 1, "account": number, "euros": number},
            2: {"code": 2, "customer": number, "cents": number if call == "charge 2" else 100 * number},
        }
        if call.startswith("charge"):
            assert result == by_code[result["code"]], "the handler saw arguments of its own code's version"
            codes.add((call, result["code"]))
        else:
            assert result == (str(number) if call.startswith("note") else number)
    assert codes == {("charge 1", 1), ("charge 1", 2), ("charge 2", 2)}
