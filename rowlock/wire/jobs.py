"""Jobs as the HTTP API takes and shows them."""

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

IsDuplicate: TypeAlias = Annotated[bool, said("whether it is another job, which holds the unique key")]
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
        """What is said of the job besides its task and arguments."""
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
    """The body of `POST /v1/jobs/{id}/reschedule`: what is left out, or null, stays. A `delay` of 0 runs it now."""

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
    """The body of `POST /v1/jobs/{id}/run-again`: other arguments, instead of the job's."""

    EXAMPLE: ClassVar = {"args": {"recipient": "ada@example.com"}}

    args: dict[str, Any] | None = None


class BulkRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/retry` and `discard`. The filter's ages are seconds, or ISO 8601 durations."""

    EXAMPLE: ClassVar = {"filter": {"queue": "email", "error": "Timeout"}, "dry_run": True}

    filter: JobFilter = JobFilter()
    dry_run: Annotated[bool, said("only count")] = False
    everything: Annotated[bool, said("an empty filter is meant")] = False


class BulkCancelRequest(BulkRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/cancel`."""

    EXAMPLE: ClassVar = {"filter": {"queue": "email"}, "dry_run": True, "reason": "sent twice"}

    reason: Reason | None = None


class BulkRescheduleRequest(BulkRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/jobs/bulk/reschedule`: what is left out, or null, stays. A `delay` of 0 runs them now."""

    EXAMPLE: ClassVar = {"filter": {"task": "send_newsletter", "state": "scheduled"}, "dry_run": True, "delay": 0}

    delay: Wait | None = None
    run_at: Instant | None = None
    priority: Priority | None = None
    queue: QueueName | None = None


class Cancelled(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a cancel: `cancelled` (it never starts), or `requested` (it runs, and was told)."""

    id: JobId
    answer: Annotated[str, said("what became of it", enum=["cancelled", "requested"])]


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
    created_at: Moment
    run_at: Annotated[Moment, said("when it is due")]
    started_at: Moment | None
    finished_at: Moment | None
    timeout: Annotated[float, said("of each attempt, in seconds")] | None
    expires_at: Annotated[Moment, said("not started by then, it never runs")] | None
    deadline: Annotated[Moment, said("by then it is over, one way or the other")] | None
    unique: Annotated[str, said("its unique key")] | None
    worker: Annotated[UUID, said("the worker that runs it")] | None
    error: Annotated[str, said("the text of its last error")] | None
    cancel_requested_at: Moment | None
    discarded_at: Annotated[Moment, said("since when it is no dead letter any more")] | None
    tags: Tags
    metadata: Metadata
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
    """The answer to an enqueue of several, in their order."""

    jobs: list[EnqueuedOne]


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a job that did not simply succeed."""

    attempt: Annotated[int, said("the first is 1", minimum=1)]
    outcome: Annotated[str, said("how it ended")]
    error_type: str | None
    message: str | None
    traceback: str | None
    worker: UUID | None
    started_at: Moment | None
    finished_at: Moment

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
    searched_until: Moment | None


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


def raw_result(job: Job) -> msgspec.Raw:
    """The job's result as the database has it, without reading it and writing it again.

    Of one that is nested too deep, written by hand, the deepest parts are text: many clients could not read it.
    """
    if job.result_json is None:
        return msgspec.Raw(b"null")
    if is_too_deep(job.result_json):
        return msgspec.Raw(msgspec.json.encode(job.result))
    return msgspec.Raw(job.result_json.encode())
