"""Rowlock: a durable job queue for async Python whose only server is PostgreSQL."""

from typing import TYPE_CHECKING

from rowlock.app import Rowlock
from rowlock.errors import (
    ApiKeyNotFound,
    ConfigurationError,
    DatabaseUnavailable,
    DrainTimeout,
    DuplicateJob,
    InsideEventLoop,
    InvalidArguments,
    InvalidJob,
    InvalidOption,
    InvalidResult,
    JobAlreadyFinished,
    JobFailed,
    JobNotFound,
    KeyHeld,
    LockTimeout,
    OutsideHandler,
    ProcessEnded,
    RemoteError,
    ResultTimeout,
    RowlockError,
    ScheduleChanged,
    ScheduleExists,
    ScheduleNotFound,
    SchemaNotMigrated,
    SchemaTooNew,
    SchemaTooOld,
    StaleAttempt,
    StatementTimeout,
    UnknownTask,
    WorkerNotFound,
    WrongState,
)
from rowlock.queue.enqueue.errors import EnqueueUnknown
from rowlock.queue.enqueue.task import BoundTask, CallNext, Middleware, Task
from rowlock.queue.jobs.filter import JobFilter
from rowlock.queue.jobs.job import Job, LogLine, Progress
from rowlock.queue.jobs.lifecycle import Cancel, Fail, Retry, Snooze
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import EnqueueOptions
from rowlock.queue.jobs.unique import Unique
from rowlock.queue.operate.bulk import BulkResult
from rowlock.queue.operate.jobs import Jobs
from rowlock.queue.operate.keys import ApiKey, Keys, NewApiKey
from rowlock.queue.operate.queues import Queues
from rowlock.queue.operate.retention import ArchiveDay, QueueRetention, Retention, RetentionStatus
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.operate.workers import LiveWorker, Workers
from rowlock.queue.read.dead_letters import DeadLetterGroup, DeadLetters, GroupedDeadLetters
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.overview import Overview
from rowlock.queue.read.pages import JobPage
from rowlock.queue.read.queues import Queue
from rowlock.queue.read.statistics import Figures, Point, QueueFigures, Statistics, TaskFigures
from rowlock.queue.read.unclaimed import Unclaimed
from rowlock.queue.schedules.schedule import Schedule, StoredSchedule, Tick
from rowlock.queue.tasks.backoff import Exponential, Linear
from rowlock.queue.tasks.lifespan import Lifespan
from rowlock.settings import Settings
from rowlock.tasks import TaskDefaults, Tasks

if TYPE_CHECKING:
    from rowlock.worker.worker import Worker

__version__ = "0.1.0"

__all__ = [
    "ApiKey",
    "ApiKeyNotFound",
    "ArchiveDay",
    "BoundTask",
    "BulkResult",
    "CallNext",
    "Cancel",
    "ConfigurationError",
    "DatabaseUnavailable",
    "DeadLetterGroup",
    "DeadLetters",
    "DrainTimeout",
    "DuplicateJob",
    "EnqueueOptions",
    "EnqueueUnknown",
    "Exponential",
    "Fail",
    "Figures",
    "GroupedDeadLetters",
    "InsideEventLoop",
    "InvalidArguments",
    "InvalidJob",
    "InvalidOption",
    "InvalidResult",
    "Job",
    "JobAlreadyFinished",
    "JobFailed",
    "JobFilter",
    "JobHandle",
    "JobNotFound",
    "JobPage",
    "Jobs",
    "KeyHeld",
    "Keys",
    "Lifespan",
    "Linear",
    "LiveWorker",
    "LockTimeout",
    "LogLine",
    "Middleware",
    "NewApiKey",
    "NewJob",
    "Operation",
    "OutsideHandler",
    "Overview",
    "Point",
    "ProcessEnded",
    "Progress",
    "Queue",
    "QueueFigures",
    "QueueRetention",
    "Queues",
    "RemoteError",
    "ResultTimeout",
    "Retention",
    "RetentionStatus",
    "Retry",
    "Rowlock",
    "RowlockError",
    "Schedule",
    "ScheduleChanged",
    "ScheduleExists",
    "ScheduleNotFound",
    "Schedules",
    "SchemaNotMigrated",
    "SchemaTooNew",
    "SchemaTooOld",
    "Settings",
    "Snooze",
    "StaleAttempt",
    "StatementTimeout",
    "Statistics",
    "StoredSchedule",
    "Task",
    "TaskDefaults",
    "TaskFigures",
    "Tasks",
    "Tick",
    "Unclaimed",
    "Unique",
    "UnknownTask",
    "Worker",
    "WorkerNotFound",
    "Workers",
    "WrongState",
]


def __getattr__(name: str) -> object:
    """Import the worker on first use: a program that only enqueues does not load it."""
    if name == "Worker":
        from rowlock.worker.worker import Worker  # noqa: PLC0415

        return Worker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
