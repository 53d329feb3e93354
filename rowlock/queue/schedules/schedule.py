"""A schedule as people see it: declared or created, and stored; and a tick that has fired."""

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
    """A schedule of a task: for `@app.task(schedule=…)`, alone or as one of a list.

    `cron`: five fields (minute hour day month weekday), six with the seconds first, or `@hourly` and the like; its
    times are those of `timezone`. Or an interval: a `timedelta` of whole seconds, kept as `@every 1h30m`, whose ticks
    are its multiples since 1970-01-01 00:00 UTC. `name`: by default the task's. `args`: the job's arguments by
    parameter. `misfire`: the policy for ticks while no worker ran: one job for the `latest`, one for each (`all`), or
    none (`skip`). `overlap`: `skip` makes no job while the last one is not finished. `jitter`: a random delay of each
    job, up to this many seconds (or a `timedelta`). `queue`, `priority`, `max_attempts`: None for the task's. Raises
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
                f"timezone must be a name like 'Europe/Berlin' or 'UTC'; got {quoted(self.timezone)}.",
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
        """The cron text, also of an interval."""
        return str(self.cron)  # __post_init__ has made it text

    @property
    def times(self) -> Cron:
        """The times that it means."""
        return Cron(self.text, self.timezone)


class ScheduleChanges(TypedDict, total=False):
    """The editable options of a schedule: its task, and the options of `Schedule` except its name."""

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
"""The editable options of a schedule, besides its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """A schedule with its name, its task, its checked arguments as JSON, and their version (None: unchanged)."""

    name: str
    task: str
    args: str | None
    args_version: int | None
    schedule: Schedule | StoredSchedule

    def parameters(self) -> tuple[object, ...]:
        """The parameters of the statements, in their order."""
        of = self.schedule
        return (
            *(self.name, self.task, of.queue, of.priority, of.max_attempts, self.args, of.cron, of.timezone),
            *(of.misfire, of.overlap, of.jitter, self.args_version),
        )

    def declaration(self) -> str:
        """All of it as one text, by which a change of the code is detected."""
        return msgspec.json.encode(self.parameters()).decode()


class StoredSchedule(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A schedule as its row was when it was read.

    `origin` is `code` if a worker stored it, else `user`. `undeclared_at`: since when the code of starting workers no
    longer declares it (None: the code declares it, or a user has created it); it goes on firing. `next_run_at` is the
    first tick that is not handled yet (None: there is none in the next fifty years); while `is_paused`, it has no
    meaning. `last_tick_at` is the last tick that fired, `last_job_id` the last job made, also by `run`. A `queue`,
    `priority` or `max_attempts` of None is the task's. `is_sensitive`: its task hides the arguments of its jobs from
    people who look from outside.
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
        """The times that it means. Raises `InvalidOption` for an invalid row that was written by hand."""
        return Cron(self.cron, self.timezone)

    def next_ticks(self, count: int) -> list[datetime]:
        """The next ticks, from the first unhandled one on; none while it is paused.

        A schedule with an invalid cron text or time zone, in a row written by hand, has none either.
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
    """A text that changes when an operator edits, pauses or resumes the schedule, or the code changes it.

    A tick that fires, and `run`, do not change it. Each edit writes `updated_at` under the row's lock; a hash of the
    editable options would reveal the arguments of a sensitive task.
    """
    return f"{(schedule.updated_at - _EPOCH) // timedelta(microseconds=1):x}"


class Tick(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that has fired: its time, when it fired, and its job, whose state is None if retention has removed it."""

    tick_at: datetime
    fired_at: datetime
    job_id: UUID
    state: str | None


def _one_of(option: str, value: object, allowed: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise InvalidOption(f"{option} must be one of {', '.join(allowed)}; got {quoted(value)}.", option=option)
    return value


__all__ = ["Declared", "Schedule", "ScheduleChanges", "StoredSchedule", "Tick", "revision"]
