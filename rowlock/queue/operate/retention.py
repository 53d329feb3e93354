"""The retention of finished jobs: operators set it by queue and by outcome; and its effect on the archive."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.actor import Origin
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.operate.act import Act, acting
from rowlock.words import quoted, seconds

if TYPE_CHECKING:
    from asyncpg import Record

    from rowlock.queue.connect.database import Database

Kept: TypeAlias = timedelta | Literal["forever"] | None
"""A time; for ever; or None: not set."""

Keep: TypeAlias = timedelta | float | Literal["forever", "default"]
"""A retention: a time, in seconds or as a `timedelta`; for ever; or the retention of the queue `*`."""

OUTCOMES: Final = ("succeeded", "failed", "cancelled", "expired")
EVERY_QUEUE: Final = "*"
LEAST: Final = timedelta(hours=1)
FOREVER: Final = timedelta(days=360_000)
"""A thousand years, as PostgreSQL compares intervals. PostgreSQL can add it to any time."""

_LONGEST: Final = timedelta(days=36_500)


class QueueRetention(msgspec.Struct, frozen=True, kw_only=True):
    """How long the finished jobs of one queue are kept; `*` stands for all queues without a time of their own.

    None: this outcome is not set, so that of `*` applies; if that is not set either, jobs are kept for ever.
    """

    queue: str
    succeeded: Kept = None
    failed: Kept = None
    cancelled: Kept = None
    expired: Kept = None

    @classmethod
    def from_row(cls, row: Record) -> QueueRetention:
        """From a row of `list_kept.sql` or `keep.sql`."""
        return cls(queue=row["name"], **{outcome: _kept(row[f"keep_{outcome}"]) for outcome in OUTCOMES})


class ArchiveDay(msgspec.Struct, frozen=True, kw_only=True):
    """One day (UTC) of the archive: about how many jobs ended on it, and their and their attempts' size on disk.

    `next_at` is the earliest time of its next removal, and `gone_at` the time when nothing is left of it; None: never.
    """

    day: date
    jobs: int
    bytes: int
    attempt_bytes: int
    next_at: Moment | None
    gone_at: Moment | None


class RetentionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The retention of each queue, and the days of the archive, oldest first."""

    queues: list[QueueRetention]
    days: list[ArchiveDay]


class Retention:
    """How long finished jobs are kept: `app.retention`.

    The retention of a queue is stored, and applies until the next change. Each change is one transaction, with a row in
    the table `operation` that records the act and its actor (`by`).

    >>> await app.retention.keep("email", succeeded=timedelta(days=7), failed=timedelta(days=90), by="ada")
    """

    def __init__(self, database: Database, origin: Origin | None = None) -> None:
        self._database = database
        self._origin = Origin() if origin is None else origin

    def through(self, origin: Origin) -> Retention:
        """The same retention, for acts of another origin, which the table `operation` records."""
        return Retention(self._database, origin)

    async def show(self) -> RetentionStatus:
        """How long finished jobs are kept, and the days of the archive, with their sizes and times of removal."""
        queues = [QueueRetention.from_row(row) for row in await self._database.run("list_kept")]
        days = [ArchiveDay(**row) for row in await self._database.run("list_archive_days")]
        return RetentionStatus(queues=queues, days=days)

    async def keep(
        self,
        queue: str,
        *,
        succeeded: Keep | None = None,
        failed: Keep | None = None,
        cancelled: Keep | None = None,
        expired: Keep | None = None,
        by: str | None = None,
    ) -> QueueRetention:
        """Set how long the finished jobs of a queue are kept, by outcome. The default is for ever.

        A time is a `timedelta`, or seconds, of at least an hour; `"forever"` is one too, and `"default"` removes the
        queue's own time. Omitted outcomes stay unchanged. The queue `"*"` stands for all queues without a time of their
        own. Whole days (UTC) are removed, once all of the day is past its time: a job is kept at least that long, and
        at most a good day longer. Live jobs are never removed. Raises `InvalidOption`.
        """
        given = {"succeeded": succeeded, "failed": failed, "cancelled": cancelled, "expired": expired}
        name, said = check(queue, given)
        details = {outcome: _told(value) for outcome, value in said.items()}
        async with acting(self._database, _Act, self._origin.acted_by(by)) as act:
            (row,) = await act.run("keep", name, list(said), list(said.values()))
            await act.record("keep", name, details, **details)
        return QueueRetention.from_row(row)


def check(queue: str, given: Mapping[str, Keep | None]) -> tuple[str, dict[str, timedelta | None]]:
    """The queue and the times that `keep` would store for it. Raises `InvalidOption`."""
    name = queue if queue == EVERY_QUEUE else checks.queue_name(queue)
    said = {outcome: _checked(outcome, value) for outcome, value in given.items() if value is not None}
    if not said:
        raise InvalidOption(f"keep({quoted(name)}) needs at least one of {', '.join(OUTCOMES)}.")
    return name, said


class _Act(Act):
    """An act on the retention of a queue."""

    kind = field = "queue"


def _checked(outcome: str, value: object) -> timedelta | None:
    """The stored time: None for the default. Raises `InvalidOption`."""
    if value == "default":
        return None
    if value == "forever":
        return FOREVER
    given = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            given = timedelta(seconds=value) if value <= _LONGEST.total_seconds() else None  # else it might round
        except (ValueError, OverflowError):
            given = None
    if not isinstance(given, timedelta) or not LEAST <= given <= _LONGEST:
        raise InvalidOption(
            f'{outcome} must be {seconds()}, from an hour to a hundred years; or "forever"; or "default" (that of '
            f'the queue "*"); got {quoted(value)}.',
            option=outcome,
        )
    return given


def _kept(stored: timedelta | None) -> Kept:
    return "forever" if stored is not None and stored > _LONGEST else stored


def _told(value: timedelta | None) -> Any:  # noqa: ANN401  # JSON
    """A time for the audit: in seconds, or in a word."""
    kept = _kept(value)
    return kept.total_seconds() if isinstance(kept, timedelta) else kept or "default"


__all__ = ["ArchiveDay", "Keep", "Kept", "QueueRetention", "Retention", "RetentionStatus"]
