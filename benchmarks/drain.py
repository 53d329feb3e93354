"""The drain: jobs that wait in the queue, and one worker process that takes them all.

The clock is the database's: from the first attempt's start to the last one's finish, as the archive has them.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg

from benchmarks.tasks import ARGUMENTS, noop
from rowlock import Rowlock, Settings
from rowlock.embedded import temporary_server
from rowlock.migrations import upgrade

POLL_SECONDS = 0.25
BATCH = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What one drain measured."""

    jobs: int
    seconds: float
    jobs_per_second: float
    worker_cpu_us_per_job: float
    server_cpu_us_per_job: float
    wal_bytes_per_job: float
    enqueue_per_second: float
    server: str
    python: str
    has_uvloop: bool
    concurrency: int


def drain(jobs: int, concurrency: int) -> Drain:
    """Run one drain on a fresh temporary server, with fsync and synchronous_commit on."""
    with temporary_server(durable=True, settings={"shared_buffers": "256MB", "max_wal_size": "4GB"}) as server:
        settings = replace(Settings(), database_url=server.url)
        upgrade(settings)
        return asyncio.run(_drain(settings, server.pid, jobs, concurrency))


async def _drain(settings: Settings, postmaster: int | None, jobs: int, concurrency: int) -> Drain:
    app = Rowlock(settings=settings)
    connection = await asyncpg.connect(settings.database_url)
    try:
        enqueue_seconds = await _enqueue(app, jobs)
        await connection.execute("VACUUM (ANALYZE) rowlock.job")
        await connection.execute("CHECKPOINT")
        wal, server_cpu = await _wal(connection), _server_cpu(postmaster)
        worker_cpu = await _work_until_done(settings, connection, jobs, concurrency)
        server_cpu, wal = _server_cpu(postmaster) - server_cpu, await _wal(connection) - wal
        seconds = await _seconds(connection, jobs)
        return Drain(
            jobs=jobs,
            seconds=round(seconds, 3),
            jobs_per_second=round(jobs / seconds),
            worker_cpu_us_per_job=round(worker_cpu / jobs * 1e6, 1),
            server_cpu_us_per_job=round(server_cpu / jobs * 1e6, 1),
            wal_bytes_per_job=round(wal / jobs),
            enqueue_per_second=round(jobs / enqueue_seconds),
            server=str(await connection.fetchval("SHOW server_version")),
            python=".".join(map(str, sys.version_info[:3])),
            has_uvloop=_has_uvloop(),
            concurrency=concurrency,
        )
    finally:
        await connection.close()
        await app.close()


async def _enqueue(app: Rowlock, jobs: int) -> float:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for done in range(0, jobs, BATCH):
        await app.enqueue_many(noop.job(*ARGUMENTS) for _ in range(min(BATCH, jobs - done)))
    return loop.time() - began


async def _work_until_done(
    settings: Settings, connection: asyncpg.Connection[asyncpg.Record], jobs: int, concurrency: int
) -> float:
    """Run the worker process until every job is in the archive, and return its CPU seconds."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.work",
        f"--concurrency={concurrency}",
        stdout=PIPE,
        stderr=PIPE,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "ROWLOCK_DATABASE_URL": settings.database_url or ""},
    )
    while await connection.fetchval("SELECT count(*) FROM rowlock.finished_job") < jobs:
        if process.returncode is not None:
            break
        await asyncio.sleep(POLL_SECONDS)
    else:
        process.terminate()
    printed, complaints = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"The worker ended with {process.returncode}: {complaints.decode()[-2000:]}")
    return float(json.loads(printed)["cpu_seconds"])


async def _seconds(connection: asyncpg.Connection[asyncpg.Record], jobs: int) -> float:
    """From the first start to the last finish, once it is sure that every job has succeeded at its first attempt."""
    row = await connection.fetchrow(
        """
        SELECT count(DISTINCT id) FILTER (WHERE state = 'succeeded' AND attempt = 1) AS succeeded,
               extract(epoch FROM max(finished_at) - min(started_at))::float8 AS seconds,
               (SELECT count(*) FROM rowlock.job) AS live
          FROM rowlock.finished_job
        """
    )
    if row is None or (row["succeeded"], row["live"]) != (jobs, 0):
        raise RuntimeError(
            f"Of {jobs} jobs, {row and row['succeeded']} have succeeded: the figures would mean nothing."
        )
    return float(row["seconds"])


async def _wal(connection: asyncpg.Connection[asyncpg.Record]) -> int:
    return int(await connection.fetchval("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn"))


def _server_cpu(postmaster: int | None) -> float:
    """CPU seconds of the server: the postmaster, its children that have ended, and those that run."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == postmaster:
            ticks += sum(map(int, fields[11:15]))
        elif int(fields[1]) == postmaster:
            ticks += sum(map(int, fields[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401, PLC0415  # an extra
    except ModuleNotFoundError:
        return False
    return True
