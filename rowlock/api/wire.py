"""The JSON of the HTTP API: jobs and schedules as they look there.

Times are ISO 8601 in UTC, durations seconds, ids text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal, Self, TypeAlias
from uuid import UUID

import msgspec

from rowlock.queue.filters import JobFilter
from rowlock.queue.forms import (
    A_HUNDRED_YEARS,
    Arguments,
    ArgumentsVersion,
    Concurrency,
    Count,
    Instant,
    JobId,
    Limit,
    MaxAttempts,
    Priority,
    QueueName,
    Reason,
    ScheduleName,
    State,
    Tags,
    TaskName,
    UniqueKey,
    Wait,
    said,
)
from rowlock.queue.job import Job, LogLine, Progress
from rowlock.queue.operators import DeadLetterGroup, Operation, Unclaimed
from rowlock.queue.queues import Queue
from rowlock.queue.retention import ArchiveDay, Kept, QueueRetention
from rowlock.queue.schedule import StoredSchedule, Tick
from rowlock.queue.unique import Unique
from rowlock.queue.workers import LiveWorker

NEXT_TICKS: Final = 10
Sensitive: TypeAlias = Annotated[
    bool, said("whether the task hides what its jobs are given and what they produce, which is null then")
]
KeepTime: TypeAlias = (
    Annotated[float, said("seconds", minimum=3600, maximum=A_HUNDRED_YEARS)] | Literal["forever", "default"]
)
IsDuplicate: TypeAlias = Annotated[bool, said("whether it is another job, which holds the unique key")]
NextPage: TypeAlias = Annotated[str | None, said("the path of the next page; null after the last one")]
CronText: TypeAlias = Annotated[str, said("five fields, six with the seconds first, or @hourly and the like")]
ZoneName: TypeAlias = Annotated[str, said("the time zone of the cron text", examples=["UTC", "Europe/Berlin"])]
MisfirePolicy: TypeAlias = Annotated[
    str, said("what becomes of ticks while no worker ran", enum=["latest", "all", "skip"])
]
OverlapPolicy: TypeAlias = Annotated[
    str, said("whether it makes a job while the last one is not finished", enum=["allow", "skip"])
]
Jitter: TypeAlias = Annotated[
    float, said("seconds; each job is delayed by up to so many", minimum=0, maximum=A_HUNDRED_YEARS)
]
_BY: Final = "the arguments whose values make the key, or `arguments` for all that differ from their defaults"
_ON_DUPLICATE: Final = ["return", "raise", "replace", "skip"]


class UniqueRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member `unique` of a `JobRequest`, where it is more than a key."""

    key: UniqueKey | None = None
    by: Annotated[list[str] | str | None, said(_BY)] = None
    until: Annotated[str, said("until when the key is held", enum=["finish", "start"])] = "finish"
    period: Limit | None = None
    across_tasks: Annotated[bool, said("whether jobs of other tasks count, too")] = False
    on_duplicate: Annotated[str, said("what becomes of a second job", enum=_ON_DUPLICATE)] = "return"

    def unique(self) -> Unique:
        """The rules. Raises `InvalidOption`."""
        return Unique(**msgspec.structs.asdict(self))


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs`. What is left out, or null, is as the task has it; a client that says nothing of
    `args_version` does not know of a second one.
    """

    task: TaskName
    args: Arguments = {}
    args_version: ArgumentsVersion | None = None
    queue: QueueName | None = None
    priority: Priority | None = None
    delay: Wait | None = None
    run_at: Instant | None = None
    max_attempts: MaxAttempts | None = None
    timeout: Limit | None = None
    unique: UniqueKey | UniqueRequest | None = None
    expires: Limit | Instant | None = None
    deadline: Limit | Instant | None = None
    tags: Tags = []


class JobsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/many`."""

    jobs: Annotated[list[JobRequest], said("1 to 1,000 jobs", minItems=1, maxItems=1000)]


class ScaleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/queues/{queue}/scale`: null takes back what was said."""

    concurrency: Concurrency | None


class ScaleWorkerRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/workers/{worker}/scale`."""

    concurrency: Concurrency


class KeepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PUT /v1/retention/{queue}`: seconds, `forever`, or `default` to take back what was said.

    What is left out stays as it is.
    """

    succeeded: KeepTime | None = None
    failed: KeepTime | None = None
    cancelled: KeepTime | None = None
    expired: KeepTime | None = None


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/cancel`."""

    reason: Reason | None = None


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/retry`."""

    args: Arguments | None = None


class RunAgainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/run-again`: other arguments, instead of the job's."""

    args: dict[str, Any] | None = None


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/retry` and `discard`. The filter's ages are seconds, or ISO 8601 durations."""

    filter: JobFilter = JobFilter()
    dry_run: Annotated[bool, said("only count")] = False
    everything: Annotated[bool, said("an empty filter is meant")] = False


class BulkCancelRequest(BulkRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/cancel`."""

    reason: Reason | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a cancel: `cancelled` (it never starts), or `requested` (it runs, and was told)."""

    id: JobId
    answer: Annotated[str, said("what became of it", enum=["cancelled", "requested"])]


class DeadLetterGroups(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters by task and error."""

    groups: list[DeadLetterGroup]


class UnclaimedKind(msgspec.Struct, frozen=True, kw_only=True):
    """Due jobs of one kind that no live worker would take."""

    task: TaskName
    args_version: ArgumentsVersion
    queue: QueueName
    jobs: Count
    waiting: Annotated[float, said("for how many seconds the first has been due")]
    why: Annotated[str, said("what is missing", enum=["no_worker", "no_task", "no_version", "no_queue"])]

    @classmethod
    def of(cls, kind: Unclaimed) -> Self:
        """The kind, with its time in seconds."""
        return cls(**msgspec.structs.asdict(kind) | {"waiting": kind.waiting.total_seconds()})


class UnclaimedKinds(msgspec.Struct, frozen=True, kw_only=True):
    """The due jobs that no live worker would take, by kind."""

    kinds: list[UnclaimedKind]


class OperationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of what people did, newest first, and where the next one is."""

    operations: list[Operation]
    next: NextPage


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list: all but its arguments, its result and its attempts, which can be large."""

    id: JobId
    task: TaskName
    args_version: ArgumentsVersion
    queue: QueueName
    state: State
    priority: Priority
    attempt: Annotated[int, said("the attempt that runs, or ran last; 0 before the first", minimum=0)]
    max_attempts: MaxAttempts
    errors: Annotated[int, said("how many attempts went wrong", minimum=0)]
    crashes: Annotated[int, said("how many took their worker down", minimum=0)]
    created_at: datetime
    run_at: Annotated[datetime, said("when it is due")]
    started_at: datetime | None
    finished_at: datetime | None
    timeout: Annotated[float, said("of each attempt, in seconds")] | None
    expires_at: Annotated[datetime, said("not started by then, it never runs")] | None
    deadline: Annotated[datetime, said("by then it is over, one way or the other")] | None
    unique: Annotated[str, said("its unique key")] | None
    worker: Annotated[UUID, said("the worker that runs it")] | None
    error: Annotated[str, said("the text of its last error")] | None
    cancel_requested_at: datetime | None
    discarded_at: Annotated[datetime, said("since when it is no dead letter any more")] | None
    tags: Tags
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job, **more: Any) -> Self:  # noqa: ANN401  # the fields of the subclasses
        """The job, with what this form has more than a summary; without what a sensitive task hides."""
        job = job.redacted()
        same: dict[str, Any] = {name: getattr(job, name) for name in _SAME}
        return cls(
            timeout=None if job.timeout is None else job.timeout.total_seconds(),
            unique=None if job.unique_key is None else job.unique_key.partition(":")[2],
            **same,
            **more,
        )


_SAME = tuple(name for name in JobSummary.__struct_fields__ if name not in {"timeout", "unique"})


class EnqueuedJob(JobSummary, frozen=True, kw_only=True):
    """The answer to an enqueue: the new job, or the one that holds its unique key."""

    is_duplicate: IsDuplicate


class EnqueuedOne(msgspec.Struct, frozen=True, kw_only=True):
    """One of several new jobs, or the one that holds its unique key."""

    id: JobId
    task: TaskName
    is_duplicate: IsDuplicate


class EnqueuedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an enqueue of several, in their order."""

    jobs: list[EnqueuedOne]


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """All queues, by name."""

    queues: list[Queue]


class QueueLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs of a queue each worker runs at once at most."""

    name: QueueName
    concurrency: Concurrency


class WorkerLimit(msgspec.Struct, frozen=True, kw_only=True):
    """How many jobs a live worker runs at once at most."""

    id: UUID
    hostname: str
    pid: int
    concurrency: Concurrency


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All that limits how many jobs run at once."""

    queues: list[QueueLimit]
    workers: list[WorkerLimit]


class WorkerList(msgspec.Struct, frozen=True, kw_only=True):
    """All live workers, oldest first."""

    workers: list[LiveWorker]


class WorkerDetail(LiveWorker, frozen=True, kw_only=True):
    """A live worker with its tasks, and the first hundred jobs that it runs or has claimed ahead."""

    tasks: list[str]
    jobs: list[JobSummary]

    @classmethod
    def of(cls, worker: LiveWorker, *, tasks: list[str], jobs: list[JobSummary]) -> Self:
        """The worker, with these."""
        return cls(**msgspec.structs.asdict(worker), tasks=tasks, jobs=jobs)


class KnownTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task as the workers' code last declared it."""

    name: TaskName
    queue: QueueName
    priority: Priority
    max_attempts: MaxAttempts
    args_version: ArgumentsVersion
    is_sensitive: Sensitive


class TaskList(msgspec.Struct, frozen=True, kw_only=True):
    """The tasks that workers have registered, by name."""

    tasks: list[KnownTask]


class KeptQueue(msgspec.Struct, frozen=True, kw_only=True):
    """How long a queue's finished jobs are kept, by outcome: seconds, `forever`, or null where nothing was said."""

    queue: str
    succeeded: float | Literal["forever"] | None
    failed: float | Literal["forever"] | None
    cancelled: float | Literal["forever"] | None
    expired: float | Literal["forever"] | None

    @classmethod
    def of(cls, said: QueueRetention) -> Self:
        """What was said, with its times in seconds."""
        return cls(
            queue=said.queue,
            succeeded=_in_seconds(said.succeeded),
            failed=_in_seconds(said.failed),
            cancelled=_in_seconds(said.cancelled),
            expired=_in_seconds(said.expired),
        )


class KeptQueues(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished jobs are kept (`*`: those of all queues that have no time of their own), and what it leads to.

    `days` are those of the archive, oldest first.
    """

    queues: list[KeptQueue]
    days: list[ArchiveDay]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job that did not simply succeed."""

    attempt: Annotated[int, said("the first is 1", minimum=1)]
    outcome: Annotated[str, said("how it ended")]
    error_type: str | None
    message: str | None
    traceback: str | None
    worker: UUID | None
    started_at: datetime | None
    finished_at: datetime

    @classmethod
    def of(cls, row: Mapping[str, Any], *, is_sensitive: bool) -> Self:
        """The attempt of a row of `list_attempts.sql`, without what a sensitive task hides."""
        hidden = {"message": None, "traceback": None} if is_sensitive else {}
        return cls(**{name: row[name] for name in cls.__struct_fields__} | hidden)


class JobDetail(JobSummary, frozen=True, kw_only=True):
    """A job with all that is known of it."""

    args: Arguments | None
    progress: Progress | None
    result: Annotated[msgspec.Raw, said("what it returned; null while there is nothing")]
    attempts: list[Attempt]

    @classmethod
    def with_attempts(cls, job: Job, attempts: Iterable[Mapping[str, Any]]) -> Self:
        """The job, and its rows of `list_attempts.sql`."""
        shown = job.redacted()
        return cls.of(
            job,
            args=None if job.is_sensitive else job.args,
            progress=shown.last_progress,
            result=raw_result(shown),
            attempts=[Attempt.of(row, is_sensitive=job.is_sensitive) for row in attempts],
        )


class JobLogs(msgspec.Struct, frozen=True, kw_only=True):
    """What the attempts of a job have logged."""

    id: UUID
    lines: list[LogLine]


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first, and where the next one is.

    A page looks at a limited number of jobs: with a rare filter it may have fewer than were asked for, and a next one;
    `searched_until` is how far back it looked then.
    """

    jobs: list[JobSummary]
    next: NextPage
    searched_until: datetime | None


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """The answer while there is no result yet."""

    id: JobId
    state: State


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """What a job that succeeded has returned."""

    id: JobId
    state: Annotated[str, said("the job's state", enum=["succeeded"])]
    result: msgspec.Raw
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job) -> Self:
        """The job's result; null if its task is sensitive."""
        return cls(id=job.id, state=job.state, result=raw_result(job.redacted()), is_sensitive=job.is_sensitive)


class Unsuccessful(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended that has no result: `failed`, `cancelled` or `expired`."""

    id: JobId
    state: Annotated[str, said("the job's state", enum=["failed", "cancelled", "expired"])]
    error: str | None
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job) -> Self:
        """The job's error; null if its task is sensitive."""
        return cls(id=job.id, state=job.state, error=job.redacted().error, is_sensitive=job.is_sensitive)


class ScheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/schedules`."""

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
    """The body of `PATCH /v1/schedules/{name}`: what is left out stays; null is what the task has."""

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
        """What the body says."""
        members = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in members.items() if value is not msgspec.UNSET}


class TickForm(msgspec.Struct, frozen=True, kw_only=True):
    """A tick that has fired, and its job."""

    tick_at: datetime
    fired_at: datetime
    job: UUID
    state: str | None

    @classmethod
    def of(cls, tick: Tick) -> Self:
        """The tick."""
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
    origin: Annotated[str, said("who made it: a worker's code, or an operator", enum=["code", "user"])]
    next_run_at: datetime | None
    last_tick_at: datetime | None
    last_job_id: UUID | None
    created_at: datetime
    updated_at: datetime
    is_sensitive: Sensitive

    @classmethod
    def of(cls, schedule: StoredSchedule, **more: Any) -> Self:  # noqa: ANN401  # the fields of the subclass
        """The schedule, with what this form has more; without the arguments of a sensitive task."""
        same = {name: getattr(schedule, name) for name in schedule.__struct_fields__}
        shown = {"jitter": schedule.jitter.total_seconds(), "args": None if schedule.is_sensitive else schedule.args}
        return cls(**same | shown, **more)


class ScheduleDetail(ScheduleForm, frozen=True, kw_only=True):
    """A schedule with the last ticks that fired, newest first, and the next ones that will."""

    ticks: list[TickForm]
    next_ticks: list[datetime]

    @classmethod
    def of_ticks(cls, schedule: StoredSchedule, ticks: Sequence[Tick]) -> Self:
        """The schedule, with the ticks that fired."""
        return cls.of(schedule, ticks=[TickForm.of(tick) for tick in ticks], next_ticks=schedule.next_ticks(NEXT_TICKS))


class SchedulePage(msgspec.Struct, frozen=True, kw_only=True):
    """All schedules, by name."""

    schedules: list[ScheduleForm]


class StartedJob(msgspec.Struct, frozen=True, kw_only=True):
    """The job that `POST /v1/schedules/{name}/run` has enqueued."""

    id: JobId
    task: TaskName


def raw_result(job: Job) -> msgspec.Raw:
    """The job's result as the database has it, without reading it and writing it again."""
    return msgspec.Raw(b"null" if job.result_json is None else job.result_json.encode())


def _in_seconds(time: Kept) -> float | Literal["forever"] | None:
    return time.total_seconds() if isinstance(time, timedelta) else time
