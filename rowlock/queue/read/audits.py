"""The audit: check the invariants of the tables in one read-only snapshot, within a time limit.

Every statement `audit_*.sql` reads one table and returns a row for each invariant: how many rows break it, some of
them in words, and how many rows it examined. The audit reads archives day by day, newest first, until it has gone back
far enough, or has no time or no rows left: each result reports how far it came.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import asyncpg

from rowlock.errors import InvalidOption
from rowlock.queue.connect.statements import statement
from rowlock.queue.read.statistics import slot_of
from rowlock.values import is_whole
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.connect.database import Database

Status: TypeAlias = Literal["kept", "partly", "empty", "unknown", "broken"]

PLANNED: Final = {
    "enable_seqscan": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
}
"""Settings that find a window of time by BRIN, and a job by its id, even if the planner believes a table is empty."""
LOCK_TIMEOUT: Final = "2s"
PATIENCE: Final = timedelta(minutes=5)
"""Upkeep may take this long, and at least four leases, to do due work: rescue jobs, remove expired rows."""
LEASES: Final = 4
EXAMPLES: Final = 5
MOST_DAYS: Final = 36_500
MOST_ROWS: Final = 2**31 - 1
MOST_SECONDS: Final = 86_400.0
SLOTS: Final = ((10, timedelta(minutes=10)), (60, timedelta(hours=1)), (900, timedelta(hours=23)))
"""The compared slots of the statistics: their seconds, and how far back they certainly exist. After a pause the
statistics begin a day back at most."""
_BEGINNING: Final = datetime(1, 1, 2, tzinfo=UTC)
_END: Final = datetime(9999, 12, 30, tzinfo=UTC)

INVARIANTS: Final[dict[str, tuple[str, ...]]] = {
    "audit_running": ("running job without a lease", "running job that its worker cannot have claimed"),
    "audit_workers": ("expired worker left behind", "worker from the future"),
    "audit_duties": ("duty too far ahead", "duty left undone", "statistics from the future"),
    "audit_keys": ("unique key without its job", "unique key past its time"),
    "audit_idempotency": ("idempotency key past its time",),
    "audit_jobs": (
        "live job whose columns disagree",
        "live job from the future",
        "two live jobs with one key",
        "running job that nobody holds",
        "waiting job whose time is over",
    ),
    "audit_schedules": ("schedule left behind", "schedule whose last job is nowhere"),
    "audit_ticks": ("tick without its job", "job of two ticks", "tick from the future"),
    "audit_progress": ("progress of no job", "progress above its job's"),
    "audit_statistics": ("slot of statistics that counts too few",),
    "audit_attempts": (
        "attempt of no job",
        "attempt above its job's",
        "attempt recorded twice",
        "attempt that its job contradicts",
        "attempt from the future",
    ),
    "audit_archive": (
        "job in both tables",
        "job archived twice",
        "finished job whose columns disagree",
        "failed job without its last attempt",
        "finished job from the future",
    ),
}
"""The invariants of each statement, in the order in which the statements run: small tables first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """How much an audit examines. `days`: of the archive, newest first (None: all of it); `rows`: of each table, at
    most; `seconds`: in all. Raises `InvalidOption`.
    """

    days: int | None = 2
    rows: int = 1_000_000
    seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.days is not None:
            _check_whole("days", self.days, MOST_DAYS, "Give fewer days, or look at the whole archive (--all).")
        _check_whole("rows", self.rows, MOST_ROWS, "Give fewer rows.")
        if not _is_number(self.seconds) or not 0 < self.seconds <= MOST_SECONDS:
            rule = f"seconds must be a number above 0 and at most {MOST_SECONDS:g}"
            raise InvalidOption(
                f"{rule}; got {quoted(self.seconds)}. Give the time that the audit may take.", option="seconds"
            )


def _check_whole(option: str, value: object, most: int, remedy: str) -> None:
    if not is_whole(value, 1, most):
        rule = f"{option} must be a whole number from 1 to {most}"
        raise InvalidOption(f"{rule}; got {quoted(value)}. {remedy}", option=option)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


QUICK: Final = Scope(days=1, rows=10_000, seconds=5.0)
"""The scope of a quick audit, such as the doctor's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One invariant: how many rows broke it (`count`), the first of them in words, and how many were examined.

    `is_cut`: there are more rows than the examined ones. `since`: all rows of an archive since then were examined.
    `why_not`: why the audit ended early, if it did.
    """

    invariant: str
    count: int = 0
    examples: tuple[str, ...] = ()
    looked_at: int = 0
    is_cut: bool = False
    since: datetime | None = None
    why_not: str | None = None

    @property
    def status(self) -> Status:
        """Whether it is kept. `partly`: as far as examined; `empty`: there are no rows; `unknown`: not examined."""
        if self.count:
            return "broken"
        if not self.looked_at:
            return "unknown" if self.is_cut or self.why_not else "empty"
        return "partly" if self.is_cut or self.why_not else "kept"


async def audit(database: Database, scope: Scope | None = None) -> list[Audited]:
    """Check every invariant, in one REPEATABLE READ READ ONLY transaction, which a standby can run as well.

    A check that exceeds the remaining time, waits for a lock, or lacks the right to read, returns a result with
    `why_not`. Raises `DatabaseUnavailable`, `SchemaNotMigrated`.
    """
    async with _snapshot(database) as connection:
        return await _Audit(database, connection, scope or Scope()).run()


@asynccontextmanager
async def _snapshot(database: Database) -> AsyncIterator[PoolConnectionProxy[Record]]:
    async with (
        database.connection() as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        yield connection


class _Audit:
    """One audit: its results so far, and its remaining time."""

    def __init__(self, database: Database, connection: PoolConnectionProxy[Record], scope: Scope) -> None:
        self._schema = database.settings.schema
        self._connection = connection
        self._scope = scope
        self._patience = max(PATIENCE, LEASES * database.settings.lease)
        self._clock = asyncio.get_running_loop().time
        self._until = self._clock() + scope.seconds
        self._found: dict[str, Audited] = {}

    async def run(self) -> list[Audited]:
        rows, patience = self._scope.rows, self._patience
        ((now, oldest, kept_since, recounted),) = await self._fetch("audit_span")
        most = now - _BEGINNING
        begin = now - (most if self._scope.days is None else min(timedelta(days=self._scope.days), most))
        await self._look("audit_running", rows, patience, EXAMPLES)
        await self._look("audit_workers", patience, EXAMPLES)
        await self._look("audit_duties", patience, EXAMPLES)
        await self._look("audit_keys", rows, patience, EXAMPLES)
        await self._look("audit_idempotency", rows, patience, EXAMPLES)
        await self._look("audit_jobs", rows, EXAMPLES, patience)
        await self._look("audit_schedules", rows, patience, EXAMPLES, kept_since)
        await self._look("audit_ticks", begin, rows, EXAMPLES, kept_since, _day_before(begin))
        await self._look("audit_progress", rows, EXAMPLES, kept_since)
        if recounted is None:
            self._cut("audit_statistics", "the mark of the last counted time is missing")
        for step, back in SLOTS if recounted is not None else ():
            until = slot_of(recounted, step)
            since = slot_of(recounted - back, step) if recounted <= now else until  # the clock went back: count again
            await self._look("audit_statistics", step, since, rows, EXAMPLES, until)
        days = list(days_back(now, begin, oldest))
        await self._look_back("audit_attempts", days, kept_since)
        await self._look_back("audit_archive", days, kept_since)
        return list(self._found.values())

    async def _look_back(self, name: str, days: Sequence[tuple[datetime, datetime]], *more: object) -> None:
        """Check an archive day by day, until there are no more days, rows or seconds."""
        left, begin = self._scope.rows, days[-1][0]
        for since, until in days:
            of_jobs = [_day_before(since)] if name == "audit_attempts" else []
            is_whole, looked_at = await self._look(
                name, since, until, begin, left, EXAMPLES, *more, *of_jobs, since=since
            )
            left -= looked_at
            if not is_whole:
                break

    async def _look(self, name: str, *parameters: object, since: datetime | None = None) -> tuple[bool, int]:
        """Run a statement, and add its results. Returns whether it examined all rows, and how many."""
        try:
            rows = await self._fetch(name, *parameters)
        except (asyncpg.QueryCanceledError, TimeoutError):
            self._cut(name, f"the time limit of {self._scope.seconds:g} s was reached")
        except asyncpg.LockNotAvailableError:
            self._cut(name, f"another transaction locked the table for more than {LOCK_TIMEOUT}")
        except asyncpg.InsufficientPrivilegeError as error:
            self._cut(name, str(error))
        else:
            for row in rows:
                self._add(row, since)
            return not any(row["is_cut"] for row in rows), max((row["looked_at"] for row in rows), default=0)
        return False, 0

    def _add(self, row: Record, since: datetime | None) -> None:
        before = self._found.get(row["invariant"], Audited(invariant=row["invariant"]))
        self._found[row["invariant"]] = replace(
            before,
            count=before.count + row["broken"],
            examples=(*before.examples, *row["examples"])[:EXAMPLES],
            looked_at=before.looked_at + row["looked_at"],
            is_cut=before.is_cut or row["is_cut"],
            since=before.since if row["is_cut"] else since,
        )

    def _cut(self, name: str, why_not: str | None = None) -> None:
        for invariant in INVARIANTS[name]:
            before = self._found.get(invariant, Audited(invariant=invariant))
            self._found[invariant] = replace(before, is_cut=True, why_not=why_not)

    async def _fetch(self, name: str, *parameters: Any) -> list[Record]:  # noqa: ANN401  # of any statement
        """Run a statement in a savepoint, within the remaining time: a failure does not end the snapshot."""
        left = self._until - self._clock()
        if left <= 0:
            raise TimeoutError
        limits = {"statement_timeout": f"{max(1, round(left * 1000))}ms", "lock_timeout": LOCK_TIMEOUT}
        settings = PLANNED | limits
        async with self._connection.transaction():
            plan = statement("plan_safely", self._schema)
            await self._connection.fetch(plan, list(settings), list(settings.values()), timeout=left + 5)
            return await self._connection.fetch(statement(name, self._schema), *parameters, timeout=left + 5)


def _day_before(moment: datetime) -> datetime:
    return max(moment, _BEGINNING) - timedelta(days=1)


def days_back(now: datetime, begin: datetime, oldest: datetime | None) -> Iterator[tuple[datetime, datetime]]:
    """The days (UTC) from the future back to `begin`, newest first; the time before the `oldest` one as one span."""
    until, since = _END, now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    while oldest is not None and since > begin and until > oldest:
        yield since, until
        until, since = since, since - timedelta(days=1)
    yield begin, until


__all__ = ["INVARIANTS", "QUICK", "Audited", "Scope", "Status", "audit", "days_back"]
