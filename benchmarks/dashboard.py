"""The dashboard on a large database: how long each call of its pages takes, and what fifty of them cost the claims."""

from __future__ import annotations

import asyncio
import json
import os
import random
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import aiohttp
import asyncpg

from benchmarks.fill import SETTINGS
from benchmarks.machine import cpu_seconds
from benchmarks.tasks import ARGUMENTS, noop
from rowlock import Rowlock
from rowlock.embedded import EmbeddedServer

LIMIT_MS = 200
DASHBOARDS = 50
SETTLE_SECONDS = 3.0
BUSY_SECONDS = 40.0
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """How long one call takes, in milliseconds."""

    path: str
    status: int
    kilobytes: float
    p50: float
    p95: float
    longest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What one worker claims and finishes a second, without and with open dashboards, run by run; and what these cost.

    `cores`: how many processors they keep busy, in the server and the API together, while there is nothing else to do.
    `microseconds`: of processor time that worker, server and API take for each job, run by run. These can be told on a
    machine on which other programs run besides.
    """

    without: list[int]
    dashboards: list[int]
    ratio: float
    without_microseconds: list[float]
    dashboards_microseconds: list[float]
    cores: float


def calls(directory: Path, rounds: int) -> list[Call]:
    """Measure each call, over HTTP, against the real API on the database in that folder."""
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        return asyncio.run(_calls(server.url, rounds))


def claims(directory: Path, rounds: int, jobs: int) -> Claims:
    """Measure a worker's throughput without and with fifty dashboards, in turn."""
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        return asyncio.run(_claims(server, rounds, jobs))


def table(measured: list[Call]) -> dict[str, object]:
    """The calls, the slowest first, and which are too slow."""
    lines: dict[str, object] = {
        call.path: f"{call.status} {call.kilobytes:6} kB  p50 {call.p50:7}  p95 {call.p95:7}  at most {call.longest} ms"
        for call in sorted(measured, key=lambda call: -call.p95)
    }
    slow = [call.path for call in measured if call.p95 > LIMIT_MS]
    return lines | {f"above {LIMIT_MS} ms": ", ".join(slow) or "none"}


async def _calls(url: str, rounds: int) -> list[Call]:
    async with _api(url) as (base, _), aiohttp.ClientSession(base) as session:
        connection = await asyncpg.connect(url)
        paths = await paths_of(connection)
        await connection.close()
        took: dict[str, list[float]] = {path: [] for path in paths}
        seen: dict[str, tuple[int, int]] = {}
        for _ in range(rounds):
            random.shuffle(paths)
            for path in paths:
                began = time.perf_counter()
                async with session.get(path) as response:
                    size = len(await response.read())
                took[path].append((time.perf_counter() - began) * 1000)
                seen[path] = response.status, size
    return [
        Call(
            path=path,
            status=seen[path][0],
            kilobytes=round(seen[path][1] / 1000, 1),
            p50=round(statistics.median(times), 1),
            p95=round(sorted(times)[round(0.95 * (len(times) - 1))], 1),
            longest=round(max(times), 1),
        )
        for path, times in sorted(took.items())
    ]


async def paths_of(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    """What the pages ask for: each list as it opens, and with its worst filters; each thing that is shown alone."""
    finished, failed, old = [
        await connection.fetchval(f"SELECT id FROM rowlock.finished_job WHERE {which} LIMIT 1")
        for which in (
            "state = 'succeeded' AND finished_at > now() - interval '1 hour'",
            "state = 'failed' AND state <> 'succeeded'",
            "finished_at < now() - interval '20 days'",
        )
    ]
    live, running = [
        await connection.fetchval("SELECT id FROM rowlock.job WHERE state = $1 LIMIT 1", state)
        for state in ("queued", "running")
    ]
    worker = await connection.fetchval("SELECT id FROM rowlock.worker ORDER BY id LIMIT 1")
    found = [
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/v1/overview",
        *(f"/v1/statistics?window={window}" for window in ("1h", "6h", "24h", "7d", "30d")),
        "/v1/statistics?window=30d&queue=queue_0&task=task_0",
        *(f"/v1/jobs/{job}" for job in (finished, failed, old, live, running)),
        *(f"/v1/jobs/{job}/logs" for job in (finished, live)),
        f"/v1/jobs/{old}/result",
        *("/v1/queues", "/v1/queues/queue_0", "/v1/queues/nobody", "/v1/limits"),
        *("/v1/workers", f"/v1/workers/{worker}", "/v1/schedules", "/v1/tasks", "/v1/retention", "/v1/unclaimed"),
        *("/v1/operations", "/v1/operations?verb=pause&target_kind=queue"),
        *(f"/v1/dead-letters{which}" for which in ("", "?queue=queue_9", "?task=task_39", "?error=host%203")),
        *(f"/v1/dead-letters{which}" for which in ("?error=nowhere", "?queue=nobody", "?discarded=true")),
        *(f"/v1/dead-letters/groups{which}" for which in ("", "?task=task_39", "?error=nowhere")),
    ]
    states = ("queued", "scheduled", "retrying", "running", "succeeded", "failed", "cancelled", "expired", "blocked")
    args = quote('{"order": 77}')
    found += [
        "/v1/jobs",
        "/v1/jobs?limit=500",
        f"/v1/jobs?before={old}",
        *(f"/v1/jobs?state={state}" for state in states),
    ]
    found += [f"/v1/jobs?{which}" for which in ("queue=queue_9", "queue=nobody", "task=task_39", "task=nobody")]
    found += [f"/v1/jobs?{which}" for which in ("older_than=1728000", "newer_than=60", "error=nowhere", f"args={args}")]
    found += [f"/v1/jobs?state=succeeded&task=nobody&args={args}", "/v1/jobs?state=queued&task=nobody"]
    found += [f"/v1/jobs?{which}" for which in ("tag=customer-10", "tag=nobody", "text=user77", "text=nowhere")]
    found += ["/v1/jobs?created_before=2020-01-01T00:00:00Z", "/v1/jobs?created_after=2020-01-01T00:00:00Z"]
    found += ["/v1/dead-letters?tag=nobody", "/v1/dead-letters?text=nowhere", "/v1/dead-letters/groups?tag=customer-10"]
    return found


async def _claims(server: EmbeddedServer, rounds: int, jobs: int) -> Claims:
    measured: dict[int, list[int]] = {0: [], DASHBOARDS: []}
    took: dict[int, list[float]] = {0: [], DASHBOARDS: []}
    async with _api(server.url) as (base, api):
        busy = [await _busy(base, dashboards, server.pid, api) for dashboards in (0, DASHBOARDS)]
        await _rate(server, api, jobs)  # the first one finds nothing in memory
        for number in range(rounds):
            for dashboards in (0, DASHBOARDS) if number % 2 == 0 else (DASHBOARDS, 0):
                async with _dashboards(base, dashboards):
                    rate, seconds = await _rate(server, api, jobs)
                    measured[dashboards].append(rate)
                    took[dashboards].append(round(seconds / jobs * 1e6, 1))
                print(f"{dashboards:3} dashboards: {measured[dashboards][-1]} jobs/s", file=sys.stderr, flush=True)
    without, with_them = statistics.median(measured[0]), statistics.median(measured[DASHBOARDS])
    return Claims(
        without=measured[0],
        dashboards=measured[DASHBOARDS],
        ratio=round(with_them / without, 3),
        without_microseconds=took[0],
        dashboards_microseconds=took[DASHBOARDS],
        cores=round(busy[1] - busy[0], 3),
    )


async def _busy(base: str, dashboards: int, server: int | None, api: int) -> float:
    """How many processors the server and the API keep busy, with so many dashboards and nothing else to do."""
    async with _dashboards(base, dashboards):
        await asyncio.sleep(SETTLE_SECONDS)
        before = cpu_seconds(server) + cpu_seconds(api)
        await asyncio.sleep(BUSY_SECONDS)
        return (cpu_seconds(server) + cpu_seconds(api) - before) / BUSY_SECONDS


async def _rate(server: EmbeddedServer, api: int, jobs: int) -> tuple[int, float]:
    """How many jobs a second one worker process claims and finishes, by their own records; and the processor seconds of
    all that took part.
    """
    connection = await asyncpg.connect(server.url, command_timeout=600)
    async with Rowlock(server.url) as app:
        await app.enqueue_many(noop.job(*ARGUMENTS) for _ in range(jobs))
    await connection.execute("VACUUM (ANALYZE) rowlock.job")
    await asyncio.sleep(SETTLE_SECONDS)
    since = await connection.fetchval("SELECT clock_timestamp()")
    before = cpu_seconds(server.pid) + cpu_seconds(api)
    worker = await _start(server.url, "-m", "benchmarks.work", "--concurrency=100", stdout=PIPE)
    try:
        waits = "SELECT EXISTS (SELECT FROM rowlock.job WHERE queue = 'default' AND priority = 5)"
        while await connection.fetchval(waits):
            if worker.returncode is not None:
                raise RuntimeError("the worker has ended")
            await asyncio.sleep(0.25)
        seconds = cpu_seconds(server.pid) + cpu_seconds(api) - before
    finally:
        worker.terminate()
        told, _ = await worker.communicate()
    rate = await connection.fetchval(
        "SELECT count(*) / extract(epoch FROM max(finished_at) - min(started_at)) FROM rowlock.finished_job "
        "WHERE task = 'noop' AND finished_at >= $1",
        since,
    )
    await connection.close()
    return int(rate), seconds + float(json.loads(told.splitlines()[-1])["cpu_seconds"])


@asynccontextmanager
async def _dashboards(base: str, number: int) -> AsyncIterator[None]:
    """So many open dashboards, which a process of its own plays."""
    if number == 0:
        yield
        return
    browsers = await _start("", "-m", "benchmarks.browsers", base, f"--number={number}", stdout=PIPE)
    try:
        yield
    finally:
        if browsers.returncode is None:
            browsers.terminate()
        told, _ = await browsers.communicate()
    asked = json.loads(told) if browsers.returncode == 0 else None
    if asked is None:
        raise RuntimeError("a dashboard could not read its page")
    print(f"{number:3} dashboards: {asked['requests']} requests, {asked['events']} events", file=sys.stderr, flush=True)


@asynccontextmanager
async def _api(url: str) -> AsyncIterator[tuple[str, int]]:
    """The real `rowlock api`, in a process of its own: its address, and its process id."""
    process = await _start(url, "-m", "rowlock", "api", "--port", "0", stdout=PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            while b"http://" not in (line := await process.stdout.readline()):
                if not line:
                    raise RuntimeError("rowlock api has ended")
        yield line.decode().split()[-1].rstrip("."), process.pid
    finally:
        process.terminate()
        await process.wait()


async def _start(url: str, *words: str, stdout: int) -> Process:
    environment = os.environ | {"ROWLOCK_DATABASE_URL": url, "PYTHONPATH": str(_ROOT)}
    return await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=stdout, stderr=DEVNULL, cwd=_ROOT, env=environment
    )
