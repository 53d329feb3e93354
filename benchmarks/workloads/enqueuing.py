"""Enqueuing: in bulk, and one by one with 1, 20 and 50 clients, with busy workers beside them or none."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.figures import Figures
from benchmarks.programs import Failed, command, workers
from benchmarks.redis import Redis
from benchmarks.rivals.system import System
from benchmarks.server import Database, Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueue:
    """How many jobs of what size; `clients` None means in bulk."""

    jobs: int
    size: int = 100
    clients: int | None = None
    workers: int = 0
    """Worker processes that are busy meanwhile: they begin with as many jobs as will be enqueued, and get all."""


async def enqueue(server: Server, system: System, plan: Enqueue) -> Figures:
    """Run it on a fresh database. Raises `Failed` unless all the jobs are in the database afterwards."""
    async with server.store(system.store) as database:
        await command(system, "prepare", database.url)
        if plan.workers:
            await command(system, "bulk", database.url, jobs=plan.jobs, batch=system.batch, size=plan.size)
        await database.settle()
        async with workers(system, plan.workers, database.url) as running:
            figures = await _enqueue(database, system, plan)
            for worker in running:
                await worker.stop()
    return figures


async def _enqueue(database: Database | Redis, system: System, plan: Enqueue) -> Figures:
    before = await database.usage()
    if plan.clients is None:
        told = await command(system, "bulk", database.url, jobs=plan.jobs, batch=system.batch, size=plan.size)
    else:
        told = await command(system, "single", database.url, jobs=plan.jobs, clients=plan.clients, size=plan.size)
    after = await database.usage()
    jobs = plan.jobs + int(told.get("warm_up", 0))
    if not plan.workers and (stored := await database.number(system.remaining_sql)) != jobs:
        raise Failed(f"{system.name}: {stored} jobs are in the database, {jobs} were enqueued")
    return {
        "jobs": plan.jobs,
        "seconds": round(told["seconds"], 3),
        "enqueued_per_second": round(plan.jobs / told["seconds"]),
        "server_cpu_us_per_job": round((after.cpu - before.cpu) / jobs * 1e6, 1),
        "wal_bytes_per_job": round((after.wal - before.wal) / jobs),
    }
