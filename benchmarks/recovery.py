"""Recovery: how long it takes until work goes on, after a worker was killed or stopped, or PostgreSQL was.

Real worker processes with default settings, on a server of their own. All times are the database's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

import asyncpg

from rowlock import Rowlock, Settings
from rowlock.embedded import EmbeddedServer, make_private_directory
from rowlock.migrations import upgrade

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROOT = Path(__file__).parent.parent
VICTIMS = 6
HELD = 25
RESTARTS = 5
BLOCKED_SECONDS = 60.0
WARM_SECONDS = 6.0
AFTER_SECONDS = 12.0
WINDOW = timedelta(seconds=1)
STEP = timedelta(milliseconds=50)
NAPS = 800_000

app = Rowlock()


@app.task
async def hold() -> None:
    """Run until it is stopped."""
    await asyncio.sleep(3600)


@app.task
async def block(seconds: float) -> None:
    """Block the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251  # that is what is measured


@app.task
async def nap() -> None:
    """Take a few milliseconds."""
    await asyncio.sleep(0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What was measured, in seconds."""

    killed_jobs: int
    kill_to_restart_p50: float
    kill_to_restart_p99: float
    released_jobs: int
    release_to_restart_p50: float
    release_to_restart_p99: float
    sigterm_to_restart_p99: float
    blocked_seconds: float
    blocked_rescues: int
    server_restarts: int
    jobs_per_second_before: float
    full_speed_after_p50: float
    full_speed_after_max: float
    processes_that_ended: int


def recovery() -> Recovery:
    """Measure all of it; takes about four minutes."""
    folder = make_private_directory("rowlock-recovery-")
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB", "max_connections": "200"}
    with EmbeddedServer(folder / "server", settings=settings) as server:
        upgrade(Settings(database_url=server.url))
        return asyncio.run(_recovery(server))


async def _recovery(server: EmbeddedServer) -> Recovery:
    url = server.url
    rescues = await _block(url)
    _, killed = await _restarted(url, signal.SIGKILL, apart=2.5)
    released, from_signal = await _restarted(url, signal.SIGTERM, apart=0.5)
    before, after, ended = await _restart_server(server)
    return Recovery(
        killed_jobs=len(killed),
        kill_to_restart_p50=_at(killed, 50),
        kill_to_restart_p99=_at(killed, 99),
        released_jobs=len(released),
        release_to_restart_p50=_at(released, 50),
        release_to_restart_p99=_at(released, 99),
        sigterm_to_restart_p99=_at(from_signal, 99),
        blocked_seconds=BLOCKED_SECONDS,
        blocked_rescues=rescues,
        server_restarts=len(after),
        jobs_per_second_before=round(median(before)),
        full_speed_after_p50=round(median(after), 2),
        full_speed_after_max=round(max(after), 2),
        processes_that_ended=ended,
    )


def _at(values: Sequence[float], percent: int) -> float:
    return round(quantiles(values, n=100, method="inclusive")[percent - 1], 3)


@asynccontextmanager
async def _workers(
    url: str, count: int, concurrency: int, **more: str
) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    command = [sys.executable, "-m", "rowlock", "worker", "benchmarks.recovery:app", "--concurrency", str(concurrency)]
    started = [
        await asyncio.create_subprocess_exec(
            *command,
            cwd=ROOT,
            env={**os.environ, "ROWLOCK_DATABASE_URL": url, **more},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _until(connection: asyncpg.Connection[Any], query: str, *values: object) -> None:
    async with asyncio.timeout(90):
        while not await connection.fetchval(query, *values):  # noqa: ASYNC110  # no notification
            await asyncio.sleep(0.05)


async def _restarted(url: str, number: signal.Signals, apart: float) -> tuple[list[float], list[float]]:
    """End workers that hold jobs by this signal: how long each job takes until it runs elsewhere.

    From the moment when it was put back, and from the signal.
    """
    connection = await asyncpg.connect(url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        stack.push_async_callback(connection.execute, "TRUNCATE rowlock.job, rowlock.attempt, rowlock.worker")
        queue = Rowlock(settings=Settings(database_url=url))
        await stack.enter_async_context(queue)
        await queue.enqueue_many(hold.job() for _ in range(VICTIMS * HELD))
        victims = await stack.enter_async_context(_workers(url, VICTIMS, HELD, ROWLOCK_GRACE_PERIOD="0.2"))
        await _until(connection, "SELECT count(*) = $1 FROM rowlock.job WHERE state = 'running'", VICTIMS * HELD)
        await stack.enter_async_context(_workers(url, 1, VICTIMS * HELD))
        await _until(connection, "SELECT count(*) = $1 FROM rowlock.worker", VICTIMS + 1)
        pids = {row["id"]: row["pid"] for row in await connection.fetch("SELECT id, pid FROM rowlock.worker")}
        signalled: dict[int, datetime] = {}
        for process in victims:
            await asyncio.sleep(apart)
            signalled[process.pid] = await connection.fetchval("SELECT clock_timestamp()")
            process.send_signal(number)
        await _until(
            connection,
            "SELECT count(*) = $1 FROM rowlock.job WHERE state = 'running' AND attempt = 2",
            VICTIMS * HELD,
        )
        rows = await connection.fetch(
            "SELECT job.started_at, attempt.finished_at, attempt.worker FROM rowlock.job "
            "JOIN rowlock.attempt ON attempt.job_id = job.id"
        )
    from_signal = [(row["started_at"] - signalled[pids[row["worker"]]]).total_seconds() for row in rows]
    return [(row["started_at"] - row["finished_at"]).total_seconds() for row in rows], from_signal


async def _block(url: str) -> int:
    connection = await asyncpg.connect(url)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(connection.close)
        queue = await stack.enter_async_context(Rowlock(settings=Settings(database_url=url)))
        await queue.enqueue_many([block.job(BLOCKED_SECONDS)])
        await stack.enter_async_context(_workers(url, 2, 5))
        await _until(connection, "SELECT count(*) = 1 FROM rowlock.finished_job")
        row = await connection.fetchrow("SELECT state, attempt, crashes FROM rowlock.finished_job")
        assert row is not None
        rescues: int = row["crashes"] + row["attempt"] - 1
        await connection.execute("TRUNCATE rowlock.finished_job")
        return rescues


async def _restart_server(server: EmbeddedServer) -> tuple[list[float], list[float], int]:
    """Crash the server in the middle of the work, and start it again: jobs a second before, seconds until then."""
    rates: list[float] = []
    seconds: list[float] = []
    ended = 0
    for _ in range(RESTARTS):
        async with Rowlock(settings=Settings(database_url=server.url)) as queue:
            await queue.enqueue_many(nap.job() for _ in range(NAPS))
        async with _workers(server.url, 2, 50) as workers:
            connection = await asyncpg.connect(server.url)
            await _until(connection, "SELECT count(*) > 0 FROM rowlock.finished_job")
            await asyncio.sleep(WARM_SECONDS)
            crashed: datetime = await connection.fetchval("SELECT clock_timestamp()")
            connection.terminate()
            await asyncio.to_thread(server.stop, "immediate")
            await asyncio.to_thread(server.start)
            connection = await _connect(server.url)
            accepting: datetime = await connection.fetchval("SELECT clock_timestamp()")
            await asyncio.sleep(AFTER_SECONDS)
            ended += sum(process.returncode is not None for process in workers)
        before = await _rate(connection, crashed - timedelta(seconds=4), timedelta(seconds=4))
        start = accepting
        while await _rate(connection, start, WINDOW) < 0.95 * before:
            start += STEP
        rates.append(before)
        seconds.append((start - accepting).total_seconds())
        await connection.execute("TRUNCATE rowlock.job, rowlock.finished_job, rowlock.attempt, rowlock.worker")
        await connection.close()
    return rates, seconds, ended


async def _connect(url: str) -> asyncpg.Connection[Any]:
    async with asyncio.timeout(60):
        while True:
            with suppress(OSError, asyncpg.PostgresError):
                return await asyncpg.connect(url, timeout=5)
            await asyncio.sleep(0.01)


async def _rate(connection: asyncpg.Connection[Any], begin: datetime, length: timedelta) -> float:
    """How many jobs a second were finished in this time."""
    count: int = await connection.fetchval(
        "SELECT count(*) FROM rowlock.finished_job WHERE finished_at >= $1 AND finished_at < $2", begin, begin + length
    )
    return count / length.total_seconds()
