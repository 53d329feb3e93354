"""Low load: what single jobs cost at 50 a second, and what workers cost that have nothing to do.

Both are looked at between two moments in the middle, when nothing starts or ends. A server's backends tell its
statistics what they did after at most ten idle seconds, so that the first moment comes later than that: else the
transactions of the start would be counted, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.figures import Figures
from benchmarks.machine import cpu_seconds
from benchmarks.programs import Failed, Worker, command, workers
from benchmarks.rivals.system import System
from benchmarks.server import Database, Server, counting_server
from benchmarks.usage import Usage

TOLD_SECONDS = 12.0
STARTING_SECONDS = 2.0
EDGE_SECONDS = 2.0
COUNTED_SECONDS = 10.0
REPORT_SECONDS = 0.1
IDLE_REPORT_SECONDS = 5.0
"""To look every 10 ms whether there is something to report would be most of what an idle worker does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What server and workers had used, and how many jobs were handled, by some moment."""

    server: Usage
    worker_cpu: float
    handled: int


async def low_rate(server: Server, system: System, rate: float, seconds: float) -> Figures:
    """What a job costs when `rate` a second are enqueued, one by one, and one worker handles them.

    The statements are counted in a second, shorter run, on a server that counts them: counting costs time.
    """
    quiet = system.quiet()
    before, after = await _at_rate(server, quiet, rate, seconds, settling=TOLD_SECONDS)
    with counting_server() as counting:
        counted = await _at_rate(counting, quiet, rate, min(seconds, COUNTED_SECONDS), settling=STARTING_SECONDS)
    return {
        **per_job(before, after),
        "rate_wanted": rate,
        "rate_reached": round((after.handled - before.handled) / seconds, 1),
        "statements_per_job": statements_per_job(*counted),
    }


async def idle(server: Server, system: System, count: int, seconds: float) -> Figures:
    """What idle workers cost: CPU and transactions a second, of all of them together."""
    quiet = system.quiet()
    async with server.database() as database:
        await command(quiet, "prepare", database.url)
        await database.settle()
        async with workers(quiet, count, database.url, report=IDLE_REPORT_SECONDS) as running:
            await asyncio.sleep(TOLD_SECONDS)
            before = await _moment(database, running)
            await asyncio.sleep(seconds)
            after = await _moment(database, running)
            await asyncio.gather(*(worker.stop() for worker in running))
    return {"workers": count, **per_second(before, after, seconds)}


def per_job(before: Moment, after: Moment) -> Figures:
    """What was used between two moments, by each job that was handled between them."""
    jobs = after.handled - before.handled
    return {
        "jobs": jobs,
        "server_cpu_us_per_job": round((after.server.cpu - before.server.cpu) / jobs * 1e6, 1),
        "worker_cpu_us_per_job": round((after.worker_cpu - before.worker_cpu) / jobs * 1e6, 1),
        "transactions_per_job": round((after.server.transactions - before.server.transactions) / jobs, 2),
        "wal_bytes_per_job": round((after.server.wal - before.server.wal) / jobs),
    }


def statements_per_job(before: Moment, after: Moment) -> float:
    """The statements between two moments, by each job that was handled between them."""
    return round((after.server.statements - before.server.statements) / (after.handled - before.handled), 2)


def per_second(before: Moment, after: Moment, seconds: float) -> Figures:
    """What was used between two moments, by each second between them."""
    return {
        "server_cpu_ms_per_idle_second": round((after.server.cpu - before.server.cpu) / seconds * 1000, 2),
        "worker_cpu_ms_per_idle_second": round((after.worker_cpu - before.worker_cpu) / seconds * 1000, 2),
        "transactions_per_idle_second": round((after.server.transactions - before.server.transactions) / seconds, 1),
    }


async def _at_rate(
    server: Server, system: System, rate: float, seconds: float, *, settling: float
) -> tuple[Moment, Moment]:
    """Start a worker, let it be idle, enqueue for it, and look at both ends of the time in the middle.

    Raises `Failed` unless every job was handled once.
    """
    jobs = round(rate * (seconds + 2 * EDGE_SECONDS))
    async with server.database() as database:
        await command(system, "prepare", database.url)
        await database.settle()
        async with workers(system, 1, database.url, report=REPORT_SECONDS) as (worker,):
            await asyncio.sleep(settling)
            enqueuing = asyncio.create_task(command(system, "trickle", database.url, jobs=jobs, gap=1 / rate, size=100))
            try:
                await worker.all_handled(1)
                await asyncio.sleep(EDGE_SECONDS)
                before = await _moment(database, [worker])
                await asyncio.sleep(seconds)
                after = await _moment(database, [worker])
            finally:
                await enqueuing
            await worker.all_handled(jobs)
            await worker.stop()
        left = await database.number(system.remaining_sql)
    if (left, worker.handled) != (0, jobs) or after.handled == before.handled:
        raise Failed(f"{system.name}: of {jobs} jobs {worker.handled} were handled, and {left} are left")
    return before, after


async def _moment(database: Database, running: Sequence[Worker]) -> Moment:
    usage = await database.usage()
    return Moment(
        server=usage,
        worker_cpu=sum(cpu_seconds(worker.pid) for worker in running),
        handled=sum(worker.handled for worker in running),
    )
