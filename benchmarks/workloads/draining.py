"""Waiting jobs, and worker processes that take them all: alone, pinned, deep, large, or 1,000 at once.

The clock runs from the first handler's start, as the workers tell it, until the database has no unfinished job left,
as it is asked from the moment on when the workers have handled them all: nothing reads the tables while they drain.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import asyncpg

from benchmarks.figures import Figures, rate_between
from benchmarks.machine import cpu_seconds, resident_bytes
from benchmarks.programs import Failed, Worker, command, workers
from benchmarks.redis import Redis
from benchmarks.rivals.system import System
from benchmarks.server import Database, Server

LOOK_SECONDS = 0.005
STALLED_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """One drain: how many jobs of what size, how many workers, and what else."""

    jobs: int
    workers: int = 1
    size: int = 100
    mode: str = "noop"
    is_pinned: bool = False
    """Whether an old read-only transaction keeps the server from cleaning up, from before the first job on."""
    window: int | None = None
    """Stop after so many jobs, and measure only those."""


async def drain(server: Server, system: System, plan: Drain) -> Figures:
    """Run it on a fresh database. Raises `Failed` unless the database says that every job finished."""
    async with server.store(system.store) as database:
        await command(system, "prepare", database.url)
        async with _pinned(database.url) if plan.is_pinned else _nothing():
            enqueued = await command(
                system, "bulk", database.url, jobs=plan.jobs, batch=_batch(system, plan.size), size=plan.size
            )
            await database.settle()
            figures = await _work(database, system, plan)
    figures["enqueue_per_second"] = round(plan.jobs / enqueued["seconds"])
    return figures


async def _work(database: Database | Redis, system: System, plan: Drain) -> Figures:
    wanted = plan.window or plan.jobs
    before = await database.usage()
    async with workers(system, plan.workers, database.url, plan.mode, size=plan.size) as running:
        await _handled(system, running, 1)
        cpu = -sum(cpu_seconds(worker.pid) for worker in running)
        await _handled(system, running, wanted // 10)
        early = max(resident_bytes(worker.pid) for worker in running)
        await _handled(system, running, wanted)
        if plan.window is None:
            await _finished(database, system, running, plan.jobs)
        end = time.monotonic_ns()
        cpu += sum(cpu_seconds(worker.pid) for worker in running)
        memory = max(resident_bytes(worker.pid) for worker in running)
        after = await database.usage()
        began = min(worker.first for worker in running if worker.first)
        progress = _progress(running)
        done = wanted if plan.window is None else progress[-1][1]
        for worker in running:
            await worker.stop()
    handled = sum(worker.handled for worker in running)
    await _verify(database, system, plan, handled)
    seconds = (end - began) / 1e9
    figures: Figures = {
        "jobs": done,
        "seconds": round(seconds, 3),
        "jobs_per_second": round(done / seconds),
        "first_tenth_per_second": round(rate_between(progress, began, 0, done // 10)),
        "last_tenth_per_second": round(rate_between(progress, began, done - done // 10, done)),
        "worker_cpu_us_per_job": round(cpu / done * 1e6, 1),
        "server_cpu_us_per_job": round((after.cpu - before.cpu) / done * 1e6, 1),
        "wal_bytes_per_job": round((after.wal - before.wal) / done),
        "worker_mb_early": round(early / 1e6, 1),
        "worker_mb": round(memory / 1e6, 1),
    }
    if figures["first_tenth_per_second"]:
        figures["last_to_first_tenth"] = round(figures["last_tenth_per_second"] / figures["first_tenth_per_second"], 3)
    if system.spread_sql and plan.window is None and database.connection is not None:
        figures["seconds_by_its_own_records"] = round(await database.connection.fetchval(system.spread_sql), 3)
    return figures


async def _handled(system: System, running: Sequence[Worker], wanted: int) -> None:
    """Wait until the workers have handled so many. Raises `Failed` if they stop getting on."""
    last, moved = -1, time.monotonic()
    while (handled := sum(worker.handled for worker in running)) < wanted:
        await asyncio.sleep(LOOK_SECONDS)
        if handled != last:
            last, moved = handled, time.monotonic()
        gone = next((worker for worker in running if worker.has_ended), None)
        if gone is not None or time.monotonic() - moved > STALLED_SECONDS:
            complaints = await (gone or running[0]).complaints()
            raise Failed(f"{system.name}: stopped at {handled} of {wanted} jobs: {complaints}")


async def _finished(database: Database | Redis, system: System, running: Sequence[Worker], jobs: int) -> None:
    """Wait until the database has no unfinished job left."""
    until = time.monotonic() + STALLED_SECONDS
    while (left := await database.number(system.remaining_sql)) > 0:
        if time.monotonic() > until:
            raise Failed(f"{system.name}: {left} of {jobs} jobs are not finished: {await running[0].complaints()}")
        await asyncio.sleep(LOOK_SECONDS / 2)


async def _verify(database: Database | Redis, system: System, plan: Drain, handled: int) -> None:
    """Every job that is gone from the queue was handled, and is recorded where the system records it."""
    left = await database.number(system.remaining_sql)
    gone = plan.jobs - left
    recorded = gone if system.finished_sql is None else await database.number(system.finished_sql)
    if plan.window is None:
        is_right = (left, handled, recorded) == (0, plan.jobs, plan.jobs)
    else:
        is_right = recorded == gone <= handled and plan.window <= handled <= plan.jobs
    if not is_right:
        raise Failed(
            f"{system.name}: of {plan.jobs} jobs {left} are left, {recorded} are recorded as finished and {handled} "
            "were handled: the figures would mean nothing"
        )


def _progress(running: Sequence[Worker]) -> list[tuple[int, int]]:
    """The workers' reports as one: at which moment how many were handled in all."""
    reports = sorted((at, number, handled) for number, worker in enumerate(running) for at, handled in worker.progress)
    by_worker, total = [0] * len(running), []
    for at, number, handled in reports:
        by_worker[number] = handled
        total.append((at, sum(by_worker)))
    return total


def _batch(system: System, size: int) -> int:
    """Large arguments in smaller batches: no system likes a statement of a gigabyte."""
    return max(1, min(system.batch, 20_000_000 // size))


@asynccontextmanager
async def _pinned(url: str) -> AsyncIterator[None]:
    reader = await asyncpg.connect(url)
    try:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            await reader.fetchval("SELECT count(*) FROM pg_class")
            yield
    finally:
        await reader.close()


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    yield
