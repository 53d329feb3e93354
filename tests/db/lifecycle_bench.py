"""The database of `test_lifecycle_machine.py`: its workers, its tables as the model has them, how time passes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
from asyncpg import Record

from rowlock import Rowlock, Settings
from rowlock.queue.claim.claims import Claims
from rowlock.queue.connect.sessions import ControlConnection
from rowlock.queue.finish.finishes import Finishes, Success, Unsuccess
from rowlock.queue.jobs.identifiers import uuid7
from tests.lifecycle_model import Hold, Row

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]


T = TypeVar("T")
HOUR: Final = timedelta(hours=1)
QUEUES: Final = ("mail", "reports")
TASKS: Final = ("send", "print")
WORKERS: Final[tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = (
    (QUEUES, TASKS),
    (QUEUES, TASKS),
    (("mail",), ("send",)),
)
"""The queues and the tasks of each worker."""
REMEMBERED: Final = 12
"""Of how many claimed attempts an outcome may still come: many of them are stale by then."""
_HOURS_FROM_NOW: Final = (
    "CASE WHEN {0} IN ('infinity', '-infinity') THEN extract(epoch FROM {0}) "
    "ELSE round(extract(epoch FROM {0} - clock_timestamp()) / 3600) END::float8"
)
_SAME: Final = "id, state, task, queue, priority, (args->>'n')::integer AS args, max_attempts, attempt, errors, crashes"
LIVE_JOBS: Final = (
    f"SELECT {_SAME}, worker, unique_key AS key, run_at, cancel_requested_at IS NOT NULL AS is_cancel_requested, "
    + ", ".join(
        f"{_HOURS_FROM_NOW.format(column)} AS {name}"
        for column, name in (
            ("run_at", "due"),
            ("ends_at", "ends"),
            ("expires_at", "expires"),
            ("deadline", "deadline"),
        )
    )
    + " FROM rowlock.job"
)
FINISHED_JOBS: Final = (
    f"SELECT {_SAME}, worker, unique_key AS key, discarded_at IS NOT NULL AS is_discarded, result::text::integer "
    "FROM rowlock.finished_job"
)
ATTEMPTS: Final = "SELECT job_id, attempt, outcome FROM rowlock.attempt"
KEYS: Final = (
    f"SELECT key, job_id, until_start, {_HOURS_FROM_NOW.format('expires_at')} AS expires FROM rowlock.unique_key"
)
ALIVE: Final = "SELECT id, expires_at > now() AS is_alive FROM rowlock.worker"
RUN_OUT: Final = "UPDATE rowlock.worker SET expires_at = least(expires_at, now() - interval '2 s') WHERE id = $1"
ONE_HOUR_PASSES: Final = (
    (
        "UPDATE rowlock.job SET run_at = run_at - $1::interval, ends_at = ends_at - $1, expires_at = expires_at - $1, "
        "deadline = deadline - $1, started_at = started_at - $1"
    ),
    "UPDATE rowlock.unique_key SET expires_at = expires_at - $1::interval",
    "UPDATE rowlock.worker SET expires_at = expires_at - $1::interval",
)


class Bench:
    """A database, an event loop, and the application's and the workers' connections: shared by all examples."""

    def __init__(self, database_url: str, direct_url: str) -> None:
        self._runner = asyncio.Runner()
        configured = Settings(database_url=database_url)
        self.app = Rowlock(settings=configured)
        self.control = ControlConnection(configured, database_url, purpose="test")
        self.connection: Connection = self.do(asyncpg.connect(direct_url))
        for name in TASKS:
            self.app.task(name=name)(_noop)

    def do(self, step: Awaitable[T]) -> T:
        async def wait() -> T:
            return await step

        return self._runner.run(wait())

    def close(self) -> None:
        self.do(self.connection.close())
        self.do(self.control.close())
        self.do(self.app.close())
        self._runner.close()


async def _noop(n: int) -> None: ...


@dataclass(slots=True, frozen=True)
class Snapshot:
    """All of the tables. The places of a job: a live one and its archived ones, of which there must be one in all."""

    rows: list[tuple[UUID, Row]]
    run_at: dict[UUID, datetime]
    attempts: Counter[tuple[UUID, int, str]]
    holds: dict[str, Hold]
    workers: dict[UUID, bool]


class Worker:
    """One start of a worker process: its lease, its claims with their cursors, its outcomes."""

    def __init__(self, bench: Bench, queues: tuple[str, ...], tasks: tuple[str, ...]) -> None:
        self.id = uuid7()
        self.queues, self.tasks = queues, tasks
        self.claims = Claims(bench.control, queues, tasks)
        self.finishes = Finishes(bench.control, self.id, _never)


def _never(_success: Success, error: Exception) -> Unsuccess:
    raise AssertionError("the database takes every result of this test") from error


@dataclass(slots=True)
class Attempt:
    """A claimed job in a worker's hands; stale as soon as somebody else has it."""

    holder: Worker
    claimed: Record
    result: str | None = None
    began: float = field(default_factory=time.monotonic)
