"""A schedule as people see it: one that is declared or created, one that is stored, and a tick that has fired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, TypedDict
from uuid import UUID

import msgspec

from rowlock.errors import InvalidOption
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.json_values import plain_json
from rowlock.queue.schedules.cron import MISFIRES, OVERLAPS, Cron, tidy
from rowlock.words import quoted

if TYPE_CHECKING:
    from asyncpg import Record

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Misfire: TypeAlias = Literal["latest", "all", "skip"]
Overlap: TypeAlias = Literal["allow", "skip"]


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a task runs by itself: for `@app.task(schedule=…)`, alone or as one of a list.

    `cron`: five fields (minute hour day month weekday), six with the seconds first, or `@hourly` and the like; its
    times are those of `timezone`. Or an interval: a `timedelta` of whole seconds, kept as `@every 1h30m`, whose ticks
    are its multiples since 1970-01-01 00:00 UTC. `name`: by default the task's. `args`: the job's arguments by
    parameter. `misfire`: what becomes of ticks while no worker ran: one job for the `latest`, one for `all` of them, or
    none (`skip`). `overlap`: `skip` makes no job while the last one is not finished. `jitter`: a random delay of each
    job up to so many seconds (or a `timedelta`). `queue`, `priority`, `max_attempts`: None for the task's. Raises
    `InvalidOption`.

    >>> @app.task(schedule=Schedule("0 3 * * *", timezone="Europe/Berlin", misfire="skip", jitter=30))
    ... async def clean_up() -> None: ...
    """

    cron: str | timedelta
    _: KW_ONLY
    name: str | None = None
    args: Mapping[str, object] = field(default_factory=dict)
    timezone: str = "UTC"
    misfire: Misfire = "latest"
    overlap: Overlap = "allow"
    jitter: timedelta | float = timedelta(0)
    queue: str | None = None
    priority: int | None = None
    max_attempts: int | None = None

    def __post_init__(self) -> None:
        checked = {
            "cron": tidy(self.cron),
            "name": None if self.name is None else checks.schedule_name(self.name),
            "misfire": _one_of("misfire", self.misfire, MISFIRES),
            "overlap": _one_of("overlap", self.overlap, OVERLAPS),
            "jitter": checks.jitter(self.jitter),
            "queue": None if self.queue is None else checks.queue_name(self.queue),
            "priority": None if self.priority is None else checks.priority(self.priority),
            "max_attempts": None if self.max_attempts is None else checks.max_attempts(self.max_attempts),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if not isinstance(self.timezone, str):
            raise InvalidOption(
                f"timezone {quoted(self.timezone)} is not text: use a name like 'Europe/Berlin' or 'UTC'.",
                option="timezone",
            )
        if self.times.next(datetime.now(UTC)) is None:
            raise InvalidOption(
                f"cron must mean a time in the next fifty years; got {quoted(self.cron)}, which the clocks of "
                f"{self.timezone} always skip. Name the minute and the hour, like 30 2 * * *, or use another timezone.",
                option="cron",
            )

    @property
    def text(self) -> str:
        """The cron text, that of an interval included."""
        return str(self.cron)  # __post_init__ has made it one

    @property
    def times(self) -> Cron:
        """The times that it means."""
        return Cron(self.text, self.timezone)


class ScheduleChanges(TypedDict, total=False):
    """What can be edited of a schedule: its task, and the options of `Schedule` but for its name."""

    task: str
    cron: str | timedelta
    args: Mapping[str, object]
    timezone: str
    misfire: Misfire
    overlap: Overlap
    jitter: timedelta | float
    queue: str | None
    priority: int | None
    max_attempts: int | None


OPTIONS: Final = tuple(option.name for option in fields(Schedule) if option.name != "name")
"""What can be edited of a schedule, besides its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A schedule with its name, its task, its arguments, checked and as JSON, and their version (None: as it has)."""

    name: str
    task: str
    args: str | None
    args_version: int | None
    schedule: Schedule | StoredSchedule

    def parameters(self) -> tuple[object, ...]:
        """What the statements take, in their order."""
        of = self.schedule
        return (
            *(self.name, self.task, of.queue, of.priority, of.max_attempts, self.args, of.cron, of.timezone),
            *(of.misfire, of.overlap, of.jitter, self.args_version),
        )

    def declaration(self) -> str:
        """All of it as one text: what tells whether the code has changed."""
        return msgspec.json.encode(self.parameters()).decode()


class StoredSchedule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A schedule as its row was when it was read.

    `origin` is `code` if a worker wrote it there, else `user`. `undeclared_at`: since when the code of workers that
    start does not declare it any more (None: it does, or somebody has created it); it goes on firing. `next_run_at` is
    the first tick that is not handled yet (None: there is none in the next fifty years); while `is_paused`, it means
    nothing. `last_tick_at` is the last one that fired, `last_job_id` the last job made, also by `run`. A `queue`,
    `priority` or `max_attempts` of None is the task's. `is_sensitive`: its task hides, from those who look from
    outside, what its jobs are given.
    """

    name: str
    task: str
    cron: str
    timezone: str
    args: dict[str, Any]
    args_version: int
    queue: str | None
    priority: int | None
    max_attempts: int | None
    misfire: Misfire
    overlap: Overlap
    jitter: timedelta
    is_paused: bool
    origin: Literal["code", "user"]
    undeclared_at: datetime | None
    next_run_at: datetime | None
    last_tick_at: datetime | None
    last_job_id: UUID | None
    created_at: datetime
    updated_at: datetime
    is_sensitive: bool

    @classmethod
    def from_row(cls, row: Record) -> Self:
        """The schedule of a row that `get_schedules.sql` or `lock_schedule.sql` returned."""
        given = {name: row[name] for name in cls.__struct_fields__ if name != "args"}
        return cls(args=plain_json(row["args"]), **given)

    @property
    def times(self) -> Cron:
        """The times that it means. Raises `InvalidOption` for a row that somebody has written by hand, and wrongly."""
        return Cron(self.cron, self.timezone)

    def next_ticks(self, count: int) -> list[datetime]:
        """The next ticks, from the first on that is not handled yet; none while it is paused.

        Nor has a schedule any whose cron text or time zone is not usable: somebody has written the row by hand.
        """
        if self.is_paused or self.next_run_at is None:
            return []
        try:
            times, moments = self.times, [self.next_run_at]
        except InvalidOption:
            return []
        while len(moments) < count and (following := times.next(moments[-1])) is not None:
            moments.append(following)
        return moments

    def __repr__(self) -> str:
        return f"<StoredSchedule {self.name} task={self.task} cron={self.cron!r} {self.timezone}>"


def revision(schedule: StoredSchedule) -> str:
    """A text that is another one once somebody has edited, paused or resumed the schedule, or the code has changed it.

    A tick that fires, or `run`, leaves it as it is. Each edit writes `updated_at` under the row's lock; a hash of what
    can be edited would tell of the arguments of a sensitive task.
    """
    return f"{(schedule.updated_at - _EPOCH) // timedelta(microseconds=1):x}"


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that has fired: its time, when it did, and its job, whose state is None if retention has removed it."""

    tick_at: datetime
    fired_at: datetime
    job_id: UUID
    state: str | None


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidOption(f"{option} {quoted(value)} is not known: use one of {', '.join(allowed)}.", option=option)
    return value


__all__ = ["Declared", "Schedule", "ScheduleChanges", "StoredSchedule", "Tick", "revision"]
