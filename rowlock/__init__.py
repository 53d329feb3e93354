"""Rowlock: a durable job queue for async Python whose only server is PostgreSQL."""

from rowlock.app import Rowlock
from rowlock.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    InvalidArguments,
    InvalidJob,
    InvalidOption,
    InvalidResult,
    JobFailed,
    JobNotFound,
    OutsideHandler,
    ResultTimeout,
    RowlockError,
    SchemaNotMigrated,
    SchemaTooNew,
    UnknownTask,
)
from rowlock.queue.job import Job, JobHandle, NewJob
from rowlock.queue.lifecycle import Cancel, Fail, Retry, Snooze
from rowlock.queue.retry import Exponential
from rowlock.queue.task import Task
from rowlock.settings import Settings

__version__ = "0.1.0"

__all__ = [
    "Cancel",
    "ConfigurationError",
    "DatabaseUnavailable",
    "Exponential",
    "Fail",
    "InvalidArguments",
    "InvalidJob",
    "InvalidOption",
    "InvalidResult",
    "Job",
    "JobFailed",
    "JobHandle",
    "JobNotFound",
    "NewJob",
    "OutsideHandler",
    "ResultTimeout",
    "Retry",
    "Rowlock",
    "RowlockError",
    "SchemaNotMigrated",
    "SchemaTooNew",
    "Settings",
    "Snooze",
    "Task",
    "UnknownTask",
]
