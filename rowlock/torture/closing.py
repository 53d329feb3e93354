"""The database's sums and leftovers, read at the end of a run, after the workers have counted and removed what is due.

Before the run, `plant` inserts finished jobs of a past day into the archive. Retention must remove some of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar
from uuid import UUID

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    import asyncpg
    from asyncpg import Record

COUNT_SECONDS: Final = 60.0
"""How long the workers may take to count everything again, and to remove what is due. No fault is left then."""
RELICS: Final = 20
"""How many finished jobs of each kind are planted."""


class Counted(msgspec.Struct, kw_only=True, frozen=True):
    """The statistics of one task, over the whole run, in slots of one length."""

    step: int
    task: str
    succeeded: int
    failed: int
    cancelled: int
    expired: int
    errors: int


class Shown(msgspec.Struct, kw_only=True, frozen=True):
    """The last progress of a job."""

    job: UUID
    attempt: int
    message: str | None


class Relic(msgspec.Struct, kw_only=True, frozen=True):
    """A planted job that is in the archive at the end. `has_attempt`: its row in the table `attempt` is there too."""

    id: UUID
    queue: str
    state: str
    has_attempt: bool


class Settled(msgspec.Struct, kw_only=True, frozen=True):
    """Whether the workers have counted everything again, and how many jobs of each kind had been planted."""

    is_counted: bool
    planted: int


@dataclass(kw_only=True)
class Closing:
    """Everything that the closing reads."""

    counted: list[Counted] = field(default_factory=list)
    shown: list[Shown] = field(default_factory=list)
    relics: list[Relic] = field(default_factory=list)
    settled: list[Settled] = field(default_factory=list)

    @cached_property
    def progress_of(self) -> dict[UUID, Shown]:
        """The last progress, by job."""
        return {one.job: one for one in self.shown}


Line = TypeVar("Line", Counted, Shown, Relic, Settled)

PLANT: Final = """
    WITH made AS (
        SELECT rowlock.create_partition(parent, (now() AT TIME ZONE 'UTC')::date - 3) AS is_made
          FROM unnest(ARRAY['finished_job', 'attempt']) AS archive (parent)
    ), said AS (
        INSERT INTO rowlock.queue (name, keep_succeeded) VALUES ('operate.brief', '1 hour')
        ON CONFLICT (name) DO UPDATE SET keep_succeeded = excluded.keep_succeeded
    )
    SELECT count(*) FROM made"""
PLANT_JOBS: Final = """
    WITH kind (queue, state) AS (
        VALUES ('operate.brief', 'succeeded'), ('operate.brief', 'failed'), ('operate.kept', 'succeeded')
    ), planted AS (
        INSERT INTO rowlock.finished_job
               (id, run_at, created_at, started_at, finished_at, attempt, max_attempts, errors, crashes, priority,
                state, queue, task, args)
        SELECT gen_random_uuid(), past.at, past.at, past.at, past.at, 2, 10, 1, 0, 5, kind.state, kind.queue,
               'operate.relic', '{}'
          FROM kind
         CROSS JOIN generate_series(1, $1::integer)
         CROSS JOIN (SELECT now() - interval '3 days' AS at) AS past
        RETURNING id, queue, finished_at
    )
    INSERT INTO rowlock.attempt (job_id, attempt, outcome, queue, task, finished_at, error_type, message)
    SELECT id, 1, 'error', queue, 'operate.relic', finished_at, 'ValueError', 'long ago' FROM planted"""
RELICS_LEFT: Final = """
    SELECT id, queue, state,
           EXISTS (SELECT FROM rowlock.attempt WHERE attempt.job_id = finished_job.id) AS has_attempt
      FROM rowlock.finished_job WHERE task = 'operate.relic' ORDER BY queue, state, id"""
COUNT_AGAIN: Final = """
    UPDATE rowlock.statistic_mark
       SET until = least(until, (SELECT min(at) FROM rowlock_audit.change) - interval '1 minute')
     WHERE name = 'counted'"""
MAKE_DUE: Final = """
    UPDATE rowlock.duty SET next_run_at = clock_timestamp() - interval '1 minute'
     WHERE name IN ('statistics', 'retention') AND next_run_at > clock_timestamp() - interval '1 minute'"""
DUE_EVERY: Final = 5.0
"""After so many seconds the duties are made due again: a run that was under way delays its duty for long. They are made
due for a minute: idle workers leave `statistics` for as long."""
STATUS: Final = """
    SELECT (SELECT until FROM rowlock.statistic_mark WHERE name = 'counted') > $1::timestamptz AS is_counted,
           EXISTS (
               SELECT FROM rowlock.finished_job
                WHERE task = 'operate.relic' AND queue = 'operate.brief' AND state = 'succeeded'
           ) AS is_left"""
STATISTICS: Final = """
    SELECT step, task, sum(succeeded)::integer AS succeeded, sum(failed)::integer AS failed,
           sum(cancelled)::integer AS cancelled, sum(expired)::integer AS expired, sum(errors)::integer AS errors
      FROM rowlock.statistic
     WHERE step IN (300, 7200) AND at > now() - interval '6 hours'
     GROUP BY step, task ORDER BY step, task"""
PROGRESS: Final = """
    SELECT job_id AS job, attempt, message FROM rowlock.progress WHERE message IS NOT NULL ORDER BY job_id"""
DISCARD_JOBS: Final = "DELETE FROM rowlock.finished_job WHERE task = 'operate.relic'"
DISCARD_ATTEMPTS: Final = "DELETE FROM rowlock.attempt WHERE task = 'operate.relic'"


async def plant(connection: asyncpg.Connection[Record]) -> None:
    """Insert finished jobs of three days ago into the archive, of which some have expired."""
    await connection.execute(PLANT)
    await connection.execute(PLANT_JOBS, RELICS)


async def settle(connection: asyncpg.Connection[Record]) -> Settled:
    """Have the workers count everything once more, and remove what is due: wait for both, for some time."""
    now = await connection.fetchval("SELECT clock_timestamp()")
    await connection.execute(COUNT_AGAIN)
    until = monotonic() + COUNT_SECONDS
    due = 0.0
    while True:
        if monotonic() >= due:
            await connection.execute(MAKE_DUE)
            due = monotonic() + DUE_EVERY
        (row,) = await connection.fetch(STATUS, now)
        if (row["is_counted"] and not row["is_left"]) or monotonic() > until:
            return Settled(is_counted=row["is_counted"], planted=RELICS)
        await asyncio.sleep(0.2)


async def write_closing(connection: asyncpg.Connection[Record], folder: Path, settled: Settled) -> None:
    """Write the closing into the run's folder, and remove the planted jobs, unseen by the audit."""
    write_lines(folder, Settled, [settled])
    write_lines(folder, Counted, [Counted(**row) for row in await connection.fetch(STATISTICS)])
    write_lines(folder, Shown, [Shown(**row) for row in await connection.fetch(PROGRESS)])
    write_lines(folder, Relic, [Relic(**row) for row in await connection.fetch(RELICS_LEFT)])
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(DISCARD_JOBS)
    await connection.execute(DISCARD_ATTEMPTS)
    await connection.execute("RESET session_replication_role")


def read_closing(folder: Path) -> Closing:
    """Read the files of `write_closing`; empty if there are none."""
    return Closing(
        counted=_read(folder, Counted),
        shown=_read(folder, Shown),
        relics=_read(folder, Relic),
        settled=_read(folder, Settled),
    )


def write_lines(folder: Path, kind: type[Line], lines: list[Line]) -> None:
    """Write the run's lines of one kind."""
    _file(folder, kind).write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def _read(folder: Path, kind: type[Line]) -> list[Line]:
    file = _file(folder, kind)
    if not file.is_file():
        return []
    return [msgspec.json.decode(line, type=kind) for line in file.read_bytes().splitlines()]


def _file(folder: Path, kind: type[msgspec.Struct]) -> Path:
    return folder / f"{kind.__name__.lower()}.closing"
