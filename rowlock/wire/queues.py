"""Requests and responses of the HTTP API that concern queues, workers, tasks, limits, retention and the audit."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self, TypeAlias
from uuid import UUID

import msgspec

from rowlock.queue.jobs.fields import (
    A_HUNDRED_YEARS,
    ArgumentsVersion,
    Concurrency,
    Count,
    MaxAttempts,
    Moment,
    Priority,
    QueueName,
    TaskName,
    said,
)
from rowlock.queue.operate.retention import ArchiveDay, Kept, QueueRetention
from rowlock.queue.operate.workers import LiveWorker
from rowlock.queue.read.dead_letters import DeadLetterGroup
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.queues import Queue
from rowlock.queue.read.unclaimed import Unclaimed
from rowlock.wire import NextPage, Sensitive
from rowlock.wire.jobs import JobSummary

KeepTime: TypeAlias = (
    Annotated[float, said("seconds", minimum=3600, maximum=A_HUNDRED_YEARS)] | Literal["forever", "default"]
)


class ScaleRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/queues/{queue}/scale`: null removes the limit."""

    EXAMPLE: ClassVar = {"concurrency": 10}

    concurrency: Concurrency | None


class ScaleWorkerRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/workers/{worker}/scale`."""

    EXAMPLE: ClassVar = {"concurrency": 20}

    concurrency: Concurrency


class KeepRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `PUT /v1/retention/{queue}`: seconds, `forever`, or `default` to remove the queue's own time.

    A member that is omitted stays.
    """

    EXAMPLE: ClassVar = {"succeeded": 86_400, "failed": "forever"}

    succeeded: KeepTime | None = None
    failed: KeepTime | None = None
    cancelled: KeepTime | None = None
    expired: KeepTime | None = None


class DeadLetterGroups(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters by task and error.

    `searched_until` is null, or how far back was searched: not all older dead letters are counted. Narrow the filter.
    """

    groups: list[DeadLetterGroup]
    searched_until: Moment | None


class UnclaimedKind(msgspec.Struct, frozen=True, kw_only=True):
    """Due jobs of one kind that no live worker can claim."""

    task: TaskName
    args_version: ArgumentsVersion
    queue: QueueName
    jobs: Count
    waiting: Annotated[float, said("seconds since the first job became due")]
    why: Annotated[
        str,
        said(
            "the reason that no live worker can claim them",
            enum=["no_worker", "no_task", "no_version", "no_queue", "quiet"],
        ),
    ]

    @classmethod
    def of(cls, kind: Unclaimed) -> Self:
        """Make the form from the kind, with its time in seconds."""
        return cls(**msgspec.structs.asdict(kind) | {"waiting": kind.waiting.total_seconds()})


class UnclaimedKinds(msgspec.Struct, frozen=True, kw_only=True):
    """The due jobs that no live worker can claim, by kind."""

    kinds: list[UnclaimedKind]


class OperationPage(msgspec.Struct, frozen=True, kw_only=True):
    """A page of the audit, newest first, and the path of the next page."""

    operations: list[Operation]
    next: NextPage


class QueueList(msgspec.Struct, frozen=True, kw_only=True):
    """All queues, by name."""

    queues: list[Queue]


class QueueLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The most jobs of a queue that each worker runs at once."""

    name: QueueName
    concurrency: Concurrency


class WorkerLimit(msgspec.Struct, frozen=True, kw_only=True):
    """The most jobs that a live worker runs at once."""

    id: UUID
    hostname: str
    pid: int
    concurrency: Concurrency


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """All limits of how many jobs run at once."""

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
        """Make the form from the worker, its tasks and its jobs."""
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
    """How long a queue's finished jobs are kept, by outcome: seconds, `forever`, or null if not set."""

    queue: str
    succeeded: float | Literal["forever"] | None
    failed: float | Literal["forever"] | None
    cancelled: float | Literal["forever"] | None
    expired: float | Literal["forever"] | None

    @classmethod
    def of(cls, said: QueueRetention) -> Self:
        """Make the form from the retention, with its times in seconds."""
        return cls(
            queue=said.queue,
            succeeded=_in_seconds(said.succeeded),
            failed=_in_seconds(said.failed),
            cancelled=_in_seconds(said.cancelled),
            expired=_in_seconds(said.expired),
        )


class KeptQueues(msgspec.Struct, frozen=True, kw_only=True):
    """How long finished jobs are kept (`*`: for queues without a time of their own), and the archive that results.

    `days` are the days of the archive, oldest first.
    """

    queues: list[KeptQueue]
    days: list[ArchiveDay]


def _in_seconds(time: Kept) -> float | Literal["forever"] | None:
    return time.total_seconds() if isinstance(time, timedelta) else time
