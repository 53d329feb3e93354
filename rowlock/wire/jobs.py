"""Requests and responses of the HTTP API that concern jobs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Self, TypeAlias, cast
from uuid import UUID

import msgspec

from rowlock.queue.jobs.fields import (
    Arguments,
    ArgumentsVersion,
    Instant,
    JobId,
    Limit,
    MaxAttempts,
    Metadata,
    Moment,
    Priority,
    QueueName,
    Reason,
    State,
    Tags,
    TaskName,
    UniqueKey,
    Wait,
    said,
)
from rowlock.queue.jobs.filter import JobFilter
from rowlock.queue.jobs.job import Job, LogLine, Progress
from rowlock.queue.jobs.json_values import is_too_deep
from rowlock.queue.jobs.options import NAMES, EnqueueOptions
from rowlock.queue.jobs.unique import Unique
from rowlock.wire import NextPage, Sensitive

IsDuplicate: TypeAlias = Annotated[bool, said("whether this is another job, which holds the unique key")]
_BY: Final = "the arguments whose values form the key, or `arguments` for all that differ from their defaults"
_ON_DUPLICATE: Final = ["return", "raise", "replace", "skip"]


class UniqueRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The member `unique` of a `JobRequest`, if it is more than a key."""

    key: UniqueKey | None = None
    by: Annotated[list[str] | str | None, said(_BY)] = None
    until: Annotated[str, said("when the key is released", enum=["finish", "start"])] = "finish"
    period: Limit | None = None
    across_tasks: Annotated[bool, said("whether jobs of other tasks count as duplicates")] = False
    on_duplicate: Annotated[str, said("how a duplicate is treated", enum=_ON_DUPLICATE)] = "return"

    def unique(self) -> Unique:
        """Return the rules. Raises `InvalidOption`."""
        return Unique(**msgspec.structs.asdict(self))


class JobRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs`. A member that is omitted or null defaults to the task's option; `args_version`
    defaults to 1.
    """

    EXAMPLE: ClassVar = {
        "task": "send_email",
        "args": {"recipient": "ada@example.com"},
        "priority": 7,
        "tags": ["urgent"],
        "metadata": {"customer": "42"},
    }

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
    tags: Tags | None = None
    metadata: Metadata | None = None

    @property
    def options(self) -> EnqueueOptions:
        """The job's options, without its task and arguments."""
        given = {name: value for name in NAMES if (value := getattr(self, name)) is not None}  # seam: request options
        if isinstance(self.unique, UniqueRequest):
            given["unique"] = self.unique.unique()
        return cast("EnqueueOptions", given)


class JobsRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/many`."""

    EXAMPLE: ClassVar = {"jobs": [JobRequest.EXAMPLE]}

    jobs: Annotated[list[JobRequest], said("1 to 1,000 jobs", minItems=1, maxItems=1000)]


class CancelRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/cancel`."""

    EXAMPLE: ClassVar = {"reason": "the customer has left"}

    reason: Reason | None = None


class RescheduleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/reschedule`: an omitted or null member stays. A `delay` of 0 runs it now."""

    EXAMPLE: ClassVar = {"delay": 3600, "queue": "bulk"}

    delay: Wait | None = None
    run_at: Instant | None = None
    priority: Priority | None = None
    queue: QueueName | None = None


class RetryRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/retry`."""

    EXAMPLE: ClassVar = {"args": {"recipient": "ada@example.com"}}

    args: Arguments | None = None


class RunAgainRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/{id}/run-again`: arguments that replace the job's."""

    EXAMPLE: ClassVar = {"args": {"recipient": "ada@example.com"}}

    args: dict[str, Any] | None = None


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/retry` and `discard`. The filter's ages are seconds, or ISO 8601 durations."""

    EXAMPLE: ClassVar = {"filter": {"queue": "email", "error": "Timeout"}, "dry_run": True}

    filter: JobFilter = JobFilter()
    dry_run: Annotated[bool, said("count the jobs without changing them")] = False
    everything: Annotated[bool, said("confirms that an empty filter is intended")] = False


class BulkCancelRequest(BulkRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/cancel`."""

    EXAMPLE: ClassVar = {"filter": {"queue": "email"}, "dry_run": True, "reason": "sent twice"}

    reason: Reason | None = None


class BulkRescheduleRequest(BulkRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/reschedule`: an omitted or null member stays. A `delay` of 0 runs them now."""

    EXAMPLE: ClassVar = {"filter": {"task": "send_newsletter", "state": "scheduled"}, "dry_run": True, "delay": 0}

    delay: Wait | None = None
    run_at: Instant | None = None
    priority: Priority | None = None
    queue: QueueName | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a cancel: `cancelled` (the job never starts), or `requested` (the running job was notified)."""

    id: JobId
    answer: Annotated[str, said("the outcome", enum=["cancelled", "requested"])]


class JobSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A job in a list, without its arguments, result and attempts, which can be large."""

    id: JobId
    task: TaskName
    args_version: ArgumentsVersion
    queue: QueueName
    state: State
    priority: Priority
    attempt: Annotated[int, said("the current or last attempt; 0 before the first", minimum=0)]
    max_attempts: MaxAttempts
    errors: Annotated[int, said("the number of failed attempts", minimum=0)]
    crashes: Annotated[int, said("the number of attempts that crashed their worker", minimum=0)]
    created_at: Moment
    run_at: Annotated[Moment, said("the time when it is due")]
    started_at: Moment | None
    finished_at: Moment | None
    timeout: Annotated[float, said("the time limit of each attempt, in seconds")] | None
    expires_at: Annotated[Moment, said("the time by which the job must start; otherwise it never runs")] | None
    deadline: Annotated[Moment, said("the time by which the job ends, whatever its outcome")] | None
    unique: Annotated[str, said("its unique key")] | None
    worker: Annotated[UUID, said("the worker that runs it")] | None
    error: Annotated[str, said("the text of its last error")] | None
    cancel_requested_at: Moment | None
    discarded_at: Annotated[Moment, said("the time when it was discarded and stopped being a dead letter")] | None
    tags: Tags
    metadata: Metadata
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job, **more: Any) -> Self:  # noqa: ANN401  # the fields of the subclasses
        """Make the form from the job and the members beyond a summary, without what a sensitive task hides."""
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


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an enqueue by a key without the scope `read`."""

    id: JobId
    is_duplicate: IsDuplicate


class EnqueuedOne(msgspec.Struct, frozen=True, kw_only=True):
    """One of several new jobs, or the one that holds its unique key."""

    id: JobId
    task: TaskName
    is_duplicate: IsDuplicate


class EnqueuedJobs(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to an enqueue of several jobs, in request order."""

    jobs: list[EnqueuedOne]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt of a job. A successful only attempt is not recorded."""

    attempt: Annotated[int, said("the attempt's number; the first is 1", minimum=1)]
    outcome: Annotated[str, said("how it ended")]
    error_type: str | None
    message: str | None
    traceback: str | None
    worker: UUID | None
    started_at: Moment | None
    finished_at: Moment

    @classmethod
    def of(cls, row: Mapping[str, Any], *, is_sensitive: bool) -> Self:
        """Make the attempt from a row of `list_attempts.sql`, without what a sensitive task hides."""
        hidden = {"message": None, "traceback": None} if is_sensitive else {}
        return cls(**{name: row[name] for name in cls.__struct_fields__} | hidden)


class JobDetail(JobSummary, frozen=True, kw_only=True):
    """A job in full: with arguments, progress, result and attempts."""

    args: Arguments | None
    progress: Progress | None
    result: Annotated[msgspec.Raw, said("its return value; null before it succeeds")]
    attempts: list[Attempt]

    @classmethod
    def with_attempts(cls, job: Job, attempts: Iterable[Mapping[str, Any]]) -> Self:
        """Make the form from the job and its rows of `list_attempts.sql`."""
        shown = job.redacted()
        return cls.of(
            job,
            args=None if job.is_sensitive else job.args,
            progress=shown.last_progress,
            result=raw_result(shown),
            attempts=[Attempt.of(row, is_sensitive=job.is_sensitive) for row in attempts],
        )


class JobLogs(msgspec.Struct, frozen=True, kw_only=True):
    """The log lines of a job's attempts."""

    id: UUID
    lines: list[LogLine]


class JobPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of jobs, newest first, and the path of the next page.

    A page searches a limited number of jobs: with a rare filter it may return fewer than `limit`, and still have a next
    page; `searched_until` is how far back it searched then.
    """

    jobs: list[JobSummary]
    next: NextPage
    searched_until: Moment | None


class Unfinished(msgspec.Struct, frozen=True, kw_only=True):
    """The answer while the job is unfinished."""

    id: JobId
    state: State


class Succeeded(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a job that succeeded."""

    id: JobId
    state: Annotated[str, said("the job's state", enum=["succeeded"])]
    result: msgspec.Raw
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the job's result; null if its task is sensitive."""
        return cls(id=job.id, state=job.state, result=raw_result(job.redacted()), is_sensitive=job.is_sensitive)


class Unsuccessful(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a job without a result: `failed`, `cancelled` or `expired`."""

    id: JobId
    state: Annotated[str, said("the job's state", enum=["failed", "cancelled", "expired"])]
    error: str | None
    is_sensitive: Sensitive

    @classmethod
    def of(cls, job: Job) -> Self:
        """Return the job's error; null if its task is sensitive."""
        return cls(id=job.id, state=job.state, error=job.redacted().error, is_sensitive=job.is_sensitive)


def raw_result(job: Job) -> msgspec.Raw:
    """Return the job's result as the database stores it, without decoding and encoding it.

    If the result is nested too deep, as one written by hand can be, its deepest parts become text: many clients could
    not read it otherwise.
    """
    if job.result_json is None:
        return msgspec.Raw(b"null")
    if is_too_deep(job.result_json):
        return msgspec.Raw(msgspec.json.encode(job.result))
    return msgspec.Raw(job.result_json.encode())
