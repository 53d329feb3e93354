"""Rowlock: a durable job queue for async Python whose only server is PostgreSQL."""

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
from rowlock.queue.enqueue.task import CallNext, Task
from rowlock.queue.jobs.filter import JobFilter
from rowlock.queue.jobs.job import Job, LogLine, Progress
from rowlock.queue.jobs.lifecycle import Cancel, Fail, Retry, Snooze
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import EnqueueOptions
from rowlock.queue.jobs.unique import Unique
from rowlock.queue.operate.jobs import BulkResult
from rowlock.queue.operate.keys import ApiKey, Keys, NewApiKey
from rowlock.queue.operate.queues import Queues
from rowlock.queue.operate.retention import ArchiveDay, QueueRetention, Retention
from rowlock.queue.operate.schedules import Schedules
from rowlock.queue.operate.workers import LiveWorker, Workers
from rowlock.queue.read.dead_letters import DeadLetterGroup
from rowlock.queue.read.handle import JobHandle
from rowlock.queue.read.operations import Operation
from rowlock.queue.read.overview import Overview
from rowlock.queue.read.queues import Queue
from rowlock.queue.read.statistics import Figures, Point, QueueFigures, Statistics, TaskFigures
from rowlock.queue.read.unclaimed import Unclaimed
from rowlock.queue.schedules.schedule import Schedule, StoredSchedule
from rowlock.queue.tasks.backoff import Exponential, Linear
from rowlock.queue.tasks.lifespan import Lifespan
from rowlock.settings import Settings
from rowlock.tasks import TaskDefaults, Tasks

__version__ = "0.1.0"

__all__ = [
    "ApiKey",
    "ApiKeyNotFound",
    "ArchiveDay",
    "BulkResult",
    "CallNext",
    "Cancel",
    "ConfigurationError",
    "DatabaseUnavailable",
    "DeadLetterGroup",
    "DrainTimeout",
    "DuplicateJob",
    "EnqueueOptions",
    "EnqueueUnknown",
    "Exponential",
    "Fail",
    "Figures",
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
    "KeyHeld",
    "Keys",
    "Lifespan",
    "Linear",
    "LiveWorker",
    "LockTimeout",
    "LogLine",
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
    "Retry",
    "Rowlock",
    "RowlockError",
    "Schedule",
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
    "Unclaimed",
    "Unique",
    "UnknownTask",
    "WorkerNotFound",
    "Workers",
    "WrongState",
]
