"""A large database to try things on: many live jobs, and a month of finished ones.

Twelve queues and forty tasks, of which a few have most of the jobs; all outcomes, the attempts that raised, tags, days.
The rows are written past the queue itself, a day at a time, and the statistics are counted from them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg

from rowlock import Settings
from rowlock.embedded import EmbeddedServer
from rowlock.migrations import upgrade
from rowlock.queue.connect.statements import statement
from rowlock.queue.read.statistics import MOST_NAMED, MOST_SAMPLED, STEPS, slot_of
from rowlock.worker.duties.statistics import BY_TIME

DAYS = 30
SETTINGS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "max_connections": "300", "maintenance_work_mem": "256MB"}
_STATEMENTS = Path(__file__).parent / "sql"


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """What was made, and how long it took."""

    url: str
    live: int
    finished: int
    attempts: int
    statistics: int
    gigabytes: float
    seconds: float


def fill(directory: Path, live: int, finished: int) -> Filled:
    """Make a database with so many jobs in that folder, on a server of its own. Exits if it has jobs already."""
    with EmbeddedServer(directory, settings=SETTINGS) as server:
        upgrade(Settings(database_url=server.url))
        return asyncio.run(fill_database(server.url, live, finished))


async def fill_database(url: str, live: int, finished: int) -> Filled:
    """Make so many jobs in a migrated database. Exits if it has jobs already."""
    began = time.perf_counter()
    connection = await asyncpg.connect(url, command_timeout=3600)
    if await connection.fetchval(
        "SELECT EXISTS (SELECT FROM rowlock.job) OR EXISTS (SELECT FROM rowlock.finished_job)"
    ):
        raise SystemExit("This database has jobs already: give the folder of a new one.")
    now = datetime.now(UTC)
    await connection.execute(_sql("fill_names"))
    for number in range(DAYS + 1):
        day = datetime(now.year, now.month, now.day, tzinfo=UTC) - timedelta(days=DAYS - number)
        since, until = max(day, now - timedelta(days=DAYS)), min(day + timedelta(days=1), now)
        for archive in ("finished_job", "attempt"):
            await connection.execute("SELECT rowlock.create_partition($1, $2)", archive, day.date())
        jobs = round(finished * ((until - since) / timedelta(days=DAYS)))
        await connection.execute(_sql("fill_finished"), since, until, jobs)
        await connection.execute(_sql("fill_attempts"), since, until)
    await connection.execute(_sql("fill_live"), live)
    await connection.execute("VACUUM (ANALYZE)")
    await _count(connection, now)
    await connection.execute("VACUUM (ANALYZE) rowlock.statistic, rowlock.backlog")
    await connection.execute("CHECKPOINT")
    filled = Filled(
        url=url,
        live=await connection.fetchval("SELECT count(*) FROM rowlock.job"),
        finished=await connection.fetchval("SELECT count(*) FROM rowlock.finished_job"),
        attempts=await connection.fetchval("SELECT count(*) FROM rowlock.attempt"),
        statistics=await connection.fetchval("SELECT count(*) FROM rowlock.statistic"),
        gigabytes=round(await connection.fetchval("SELECT pg_database_size(current_database())") / 1e9, 2),
        seconds=round(time.perf_counter() - began, 1),
    )
    await connection.close()
    return filled


async def _count(connection: asyncpg.Connection[asyncpg.Record], now: datetime) -> None:
    """Count the month as the workers would have: short slots of the last hours, long ones of all."""
    for name, value in BY_TIME.items():
        await connection.execute(f"SET {name} = {value}")
    steps = list(STEPS)
    for step, kept in STEPS.items():
        since = slot_of(now - min(kept, timedelta(days=DAYS)), step)
        await connection.execute(statement("count_finished", "rowlock"), step, since, now, MOST_NAMED)
    await connection.execute("UPDATE rowlock.statistic_mark SET until = $1", now)
    await connection.execute(statement("sample_backlog", "rowlock"), steps[1:], MOST_SAMPLED)
    await connection.execute(_sql("fill_backlog"), steps[1:], list(STEPS.values())[1:])


def _sql(name: str) -> str:
    return (_STATEMENTS / f"{name}.sql").read_text(encoding="utf-8")
