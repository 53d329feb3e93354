"""The audit: triggers log every change of a job, its archive and the workers' leases, in the same transaction.

Only for a database under test: the triggers slow everything down. The checker compares these changes with the
processes' histories (rowlock.torture.history); it reads both from the run's folder.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from uuid import UUID

import msgspec

from rowlock.schema import in_schema

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import asyncpg
    from asyncpg import Record


class Change(msgspec.Struct, kw_only=True, frozen=True):
    """One row that was inserted (`old_state` is None), updated, or deleted (`state` is None), in the order of `number`.

    `what` is `job` (a live one), `finished_job` (the archive) or `worker`. `id` is the job's or the worker's; a deleted
    row has its old columns. Times are the database's clock, in seconds since 1970: `at` is the moment of the change,
    `began` that of its transaction (a claim compares due times with it), `committed` that of the commit if the server
    keeps it. A released lease has expired at 0. Only waiting jobs have the columns from `run_at` on and `expires_at`;
    `content` is the argument of that name of a job with a unique key.
    """

    number: int
    xid: int
    at: float
    what: Literal["job", "finished_job", "worker"]
    id: UUID
    old_state: str | None = None
    state: str | None = None
    attempt: int | None = None
    errors: int | None = None
    crashes: int | None = None
    worker: UUID | None = None
    unique_key: str | None = None
    run: str | None = None
    pid: int | None = None
    expires_at: float | None = None
    began: float = 0.0
    committed: float | None = None
    run_at: float | None = None
    ends_at: float | None = None
    deadline: float | None = None
    queue: str | None = None
    task: str | None = None
    priority: int | None = None
    content: int | None = None
    max_attempts: int | None = None
    timeout: float | None = None
    tags: list[str] | None = None
    metadata: dict[str, str] | None = None
    args_version: int | None = None

    @property
    def visible(self) -> float:
        """Return when others could see it, as far as the server knows: at the commit, or not before the change."""
        return self.at if self.committed is None else max(self.at, self.committed)


class Recorded(msgspec.Struct, kw_only=True, frozen=True):
    """A row of the table `attempt`: the outcome of an attempt that did not succeed."""

    job: UUID
    attempt: int
    outcome: str
    worker: UUID | None
    at: float


class Effect(msgspec.Struct, kw_only=True, frozen=True):
    """A handler's own write inside job.transaction(): exactly one for each success of its job, and no other."""

    job: UUID
    attempt: int
    run: str


class Tick(msgspec.Struct, kw_only=True, frozen=True):
    """A tick of a schedule that made a job."""

    schedule: str
    tick_at: float
    job: UUID
    fired_at: float


class Last(msgspec.Struct, kw_only=True, frozen=True):
    """A job in the view `jobs` at the end of the run."""

    id: UUID
    task: str
    state: str
    attempt: int
    run: str | None = None


Row = TypeVar("Row", Change, Recorded, Effect, Tick, Last)

_QUERIES: Final[dict[type[msgspec.Struct], str]] = {
    Change: """
        SELECT number, xid::text::bigint AS xid, extract(epoch FROM at)::float8 AS at, what, id, old_state, state,
               attempt, errors, crashes, worker, unique_key, run, pid, queue, task, priority, content,
               max_attempts, extract(epoch FROM timeout)::float8 AS timeout, tags, metadata, args_version,
               extract(epoch FROM began)::float8 AS began,
               CASE WHEN (run_at IS NOT NULL OR state = 'running' OR unique_key IS NOT NULL)
                         AND current_setting('track_commit_timestamp')::boolean
                    THEN extract(epoch FROM pg_xact_commit_timestamp(xid::xid))::float8 END AS committed,
               CASE WHEN expires_at IS NOT NULL THEN extract(epoch FROM greatest(expires_at, 'epoch'))::float8 END
                   AS expires_at,
               CASE WHEN run_at IS NOT NULL THEN extract(epoch FROM least(run_at, '9999-01-01'))::float8 END AS run_at,
               CASE WHEN ends_at IS NOT NULL THEN extract(epoch FROM greatest(ends_at, 'epoch'))::float8 END AS ends_at,
               extract(epoch FROM deadline)::float8 AS deadline
          FROM rowlock_audit.change ORDER BY what = 'worker' DESC, id, number""",
    Recorded: """
        SELECT job_id AS job, attempt, outcome, worker, extract(epoch FROM finished_at)::float8 AS at
          FROM rowlock.attempt ORDER BY job_id, attempt, finished_at""",
    Effect: "SELECT job, attempt, run FROM rowlock_audit.effect ORDER BY job, attempt",
    Tick: """
        SELECT schedule, extract(epoch FROM tick_at)::float8 AS tick_at, job_id AS job,
               extract(epoch FROM fired_at)::float8 AS fired_at
          FROM rowlock.schedule_tick ORDER BY schedule, tick_at""",
    Last: """
        SELECT id, task, state, attempt, CASE jsonb_typeof(result) WHEN 'object' THEN result ->> 'run' END AS run
          FROM rowlock.jobs ORDER BY id""",
}


async def install(connection: asyncpg.Connection[Record], schema: str = "rowlock") -> None:
    """Install the triggers in a migrated database, before anything uses it."""
    for statement in _statements(schema):
        await connection.execute(statement)


async def write_audit(connection: asyncpg.Connection[Record], folder: Path, schema: str = "rowlock") -> None:
    """Write the audit's changes and Rowlock's own tables into the run's folder, a file of JSON lines each.

    The changes are sorted by worker, then by job, each in the order in which they happened.
    """
    for kind, query in _QUERIES.items():
        rows = in_schema(f"SELECT row_to_json(line)::text FROM ({query}) AS line", schema)  # noqa: S608  # no values in it
        # As CSV with quotes that do not occur: the line stays unchanged.
        with _file(folder, kind).open("wb") as output:
            await connection.copy_from_query(rows, output=output, format="csv", delimiter="\x01", quote="\x02")


def read_audit(folder: Path, kind: type[Row]) -> Iterator[Row]:
    """Read the lines of one kind that `write_audit` has written."""
    decoder = msgspec.json.Decoder(kind)
    with _file(folder, kind).open("rb") as lines:
        for line in lines:
            yield decoder.decode(line)


def _file(folder: Path, kind: type[msgspec.Struct]) -> Path:
    return folder / f"{kind.__name__.lower()}.audit"


@lru_cache
def _statements(schema: str) -> tuple[str, ...]:
    text = files("rowlock.torture").joinpath("audit.sql").read_text(encoding="utf-8")
    return tuple(in_schema(text, schema).split("--;"))
