"""Requests and responses of the HTTP API that concern schedules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias
from uuid import UUID

import msgspec

from rowlock.queue.jobs.fields import (
    A_HUNDRED_YEARS,
    Arguments,
    ArgumentsVersion,
    JobId,
    MaxAttempts,
    Moment,
    Priority,
    QueueName,
    ScheduleName,
    TaskName,
    said,
)
from rowlock.queue.schedules.schedule import StoredSchedule, Tick
from rowlock.wire import Sensitive

NEXT_TICKS: Final = 10
CronText: TypeAlias = Annotated[str, said("five fields, or six with the seconds first, or a name like @hourly")]
ZoneName: TypeAlias = Annotated[str, said("the time zone of the cron text", examples=["UTC", "Europe/Berlin"])]
MisfirePolicy: TypeAlias = Annotated[
    str, said("how ticks missed while no worker ran are treated", enum=["latest", "all", "skip"])
]
OverlapPolicy: TypeAlias = Annotated[
    str, said("whether a tick enqueues a job while the last one is unfinished", enum=["allow", "skip"])
]
Jitter: TypeAlias = Annotated[
    float, said("the longest random delay of each job, in seconds", minimum=0, maximum=A_HUNDRED_YEARS)
]


class ScheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules`."""

    EXAMPLE: ClassVar = {"name": "report", "task": "make_report", "cron": "0 6 * * MON", "timezone": "Europe/Berlin"}

    name: ScheduleName
    task: TaskName
    cron: CronText
    args: Arguments = {}
    timezone: ZoneName = "UTC"
    misfire: MisfirePolicy = "latest"
    overlap: OverlapPolicy = "allow"
    jitter: Jitter = 0
    queue: QueueName | None = None
    priority: Priority | None = None
    max_attempts: MaxAttempts | None = None
    is_paused: bool = False


class ScheduleChanges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The body of `PATCH /v1/schedules/{name}`: a member that is omitted stays; null means the task's default."""

    EXAMPLE: ClassVar = {"cron": "0 7 * * MON"}

    task: TaskName | msgspec.UnsetType = msgspec.UNSET
    cron: CronText | msgspec.UnsetType = msgspec.UNSET
    args: Arguments | msgspec.UnsetType = msgspec.UNSET
    timezone: ZoneName | msgspec.UnsetType = msgspec.UNSET
    misfire: MisfirePolicy | msgspec.UnsetType = msgspec.UNSET
    overlap: OverlapPolicy | msgspec.UnsetType = msgspec.UNSET
    jitter: Jitter | msgspec.UnsetType = msgspec.UNSET
    queue: QueueName | msgspec.UnsetType | None = msgspec.UNSET
    priority: Priority | msgspec.UnsetType | None = msgspec.UNSET
    max_attempts: MaxAttempts | msgspec.UnsetType | None = msgspec.UNSET

    def given(self) -> dict[str, Any]:
        """Return the members that the body contains."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in members.items() if value is not msgspec.UNSET}


class TickForm(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that has fired, and its job."""

    tick_at: Moment
    fired_at: Moment
    job: UUID
    state: str | None

    @classmethod
    def of(cls, tick: Tick) -> Self:
        """Make the form from the tick."""
        return cls(tick_at=tick.tick_at, fired_at=tick.fired_at, job=tick.job_id, state=tick.state)


class ScheduleForm(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule."""

    name: ScheduleName
    task: TaskName
    cron: CronText
    timezone: ZoneName
    args: Arguments | None
    args_version: ArgumentsVersion
    queue: QueueName | None
    priority: Priority | None
    max_attempts: MaxAttempts | None
    misfire: MisfirePolicy
    overlap: OverlapPolicy
    jitter: Jitter
    is_paused: bool
    origin: Annotated[str, said("who created it: a worker's code, or an operator", enum=["code", "user"])]
    undeclared_at: Annotated[Moment, said("the time when the code stopped declaring it")] | None
    next_run_at: Moment | None
    last_tick_at: Moment | None
    last_job_id: UUID | None
    created_at: Moment
    updated_at: Moment
    is_sensitive: Sensitive

    @classmethod
    def of(cls, schedule: StoredSchedule, **more: Any) -> Self:  # noqa: ANN401  # the fields of the subclass
        """Make the form from the schedule and the members of a subclass, without a sensitive task's arguments."""
        same = {name: getattr(schedule, name) for name in schedule.__struct_fields__}
        shown = {"jitter": schedule.jitter.total_seconds(), "args": None if schedule.is_sensitive else schedule.args}
        return cls(**same | shown, **more)


class ScheduleDetail(ScheduleForm, frozen=True, kw_only=True):
    """A schedule with its last ticks, newest first, and its next ones."""

    ticks: list[TickForm]
    next_ticks: list[Moment]

    @classmethod
    def of_ticks(cls, schedule: StoredSchedule, ticks: Sequence[Tick]) -> Self:
        """Make the form from the schedule and the ticks that fired."""
        return cls.of(schedule, ticks=[TickForm.of(tick) for tick in ticks], next_ticks=schedule.next_ticks(NEXT_TICKS))


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """All schedules, by name."""

    schedules: list[ScheduleForm]


class StartedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job that `POST /v1/schedules/{name}/run` enqueued."""

    id: JobId
    task: TaskName
