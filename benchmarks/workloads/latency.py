"""How long a job waits: for an idle worker (pick-up), and under a steady load (end to end)."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence

from benchmarks.figures import Figures, percentile
from benchmarks.machine import cpu_seconds
from benchmarks.programs import Failed, Worker, command, workers
from benchmarks.rivals.system import System
from benchmarks.server import Server

GAP_SECONDS = 0.05
SETTLING_SECONDS = 2.0
SETTLING_SHARE = 0.1
"""The first jobs of a steady load, while connections and caches warm up, do not count."""


async def pick_up(server: Server, system: System, jobs: int) -> Figures:
    """Single jobs, 50 ms apart on average, for one idle worker.

    Pick-up is from the return of the enqueue call, when its commit is known, to the handler's start: it is negative
    where the handler was faster than the answer. `from_call` is from before the enqueue call.
    """
    async with server.database() as database:
        await command(system, "prepare", database.url)
        await database.settle()
        async with workers(system, 1, database.url, "stamp") as (worker,):
            await asyncio.sleep(SETTLING_SECONDS)
            told = await command(system, "trickle", database.url, jobs=jobs, gap=GAP_SECONDS, size=100)
            await worker.all_handled(jobs)
            await worker.stop()
    starts = _starts(system, worker, jobs)
    pick_ups = [(starts[number] - committed) / 1e6 for number, committed in enumerate(told["committed"])]
    from_call = [(starts[number] - sent) / 1e6 for number, sent in enumerate(told["sent"])]
    return {
        "jobs": jobs,
        "pick_up_p50_ms": round(percentile(pick_ups, 0.5), 2),
        "pick_up_p99_ms": round(percentile(pick_ups, 0.99), 2),
        "pick_up_max_ms": round(max(pick_ups), 2),
        "from_call_p50_ms": round(percentile(from_call, 0.5), 2),
        "from_call_p99_ms": round(percentile(from_call, 0.99), 2),
    }


async def steady(server: Server, system: System, rate: float, seconds: float) -> Figures:
    """Jobs enqueued in bulk every 10 ms at a steady rate; from before each enqueue call to the handler's start."""
    async with server.database() as database:
        await command(system, "prepare", database.url)
        await database.settle()
        async with workers(system, 1, database.url, "stamp") as (worker,):
            await asyncio.sleep(SETTLING_SECONDS)
            before, cpu = await database.usage(), cpu_seconds(worker.pid)
            told = await command(system, "stream", database.url, rate=rate, seconds=seconds, size=100)
            waiting = told["jobs"] - worker.handled
            await worker.all_handled(told["jobs"])
            after, cpu = await database.usage(), cpu_seconds(worker.pid) - cpu
            await worker.stop()
    starts = _starts(system, worker, told["jobs"])
    waits = _waits(told["sent"], starts, settling=int(told["jobs"] * SETTLING_SHARE))
    return {
        "jobs": told["jobs"],
        "rate_wanted": round(rate),
        "rate_reached": round(told["jobs"] / told["seconds"]),
        "waiting_at_the_end": waiting,
        "end_to_end_p50_ms": round(percentile(waits, 0.5), 2),
        "end_to_end_p99_ms": round(percentile(waits, 0.99), 2),
        "worker_cpu_percent": round(cpu / told["seconds"] * 100, 1),
        "server_cpu_percent": round((after.cpu - before.cpu) / told["seconds"] * 100, 1),
        "wal_bytes_per_job": round((after.wal - before.wal) / told["jobs"]),
    }


def _waits(sent: Sequence[tuple[int, int]], starts: dict[int, int], settling: int) -> list[float]:
    """Milliseconds from the call that enqueued each job: `sent` has each call's first number and moment."""
    firsts = [first for first, _ in sent]
    return [
        (began - sent[bisect_right(firsts, number) - 1][1]) / 1e6
        for number, began in starts.items()
        if number > max(0, settling)
    ]


def _starts(system: System, worker: Worker, jobs: int) -> dict[int, int]:
    """When each job's handler began. Raises `Failed` unless each job began exactly once."""
    told = worker.result.get("starts", [])
    starts = {int(number): int(began) for number, began in told}
    if len(told) != jobs or sorted(starts) != list(range(jobs)):
        raise Failed(f"{system.name}: {len(told)} handlers began, of {len(starts)} different jobs, instead of {jobs}")
    return starts
