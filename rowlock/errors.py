"""Every error that Rowlock raises, in one tree.

```
RowlockError
├── ConfigurationError           the set-up is wrong; each message names the remedy
│   ├── DatabaseUnavailable      no server answers at the DSN, it refuses the login, or takes no writes
│   ├── SchemaNotMigrated        the schema is missing, or lacks what this code needs
│   │   └── SchemaTooOld         it is there, as an older Rowlock made it
│   └── SchemaTooNew             the schema was migrated by a newer Rowlock than this one
├── InvalidJob                   (ValueError) an enqueue was refused; nothing was stored
│   ├── UnknownTask              no task of this name is known
│   ├── InvalidArguments         arguments that do not fit the task, or are not JSON
│   └── InvalidOption            a queue, priority, delay, key, … that makes no sense
│       └── ScheduleExists       a schedule has this name already
├── DuplicateJob                 another job holds the unique key, and `on_duplicate` is `raise`; nothing was stored
├── EnqueueUnknown               the connection was lost in the middle: the jobs may be stored, or not
├── InvalidResult                (TypeError) a handler returned what JSON cannot hold
├── InsideEventLoop              (RuntimeError) a synchronous method was called where one must `await`
├── JobNotFound                  (LookupError) no job has this id
├── OutsideHandler               (RuntimeError) what only a running handler can do with its job
├── StaleAttempt                 what an attempt wanted to do in its job's name, when the job was no longer its own
├── WrongState                   the job's or worker's state does not allow what was asked; nothing was changed
│   └── JobAlreadyFinished       a cancel came too late
├── KeyHeld                      a job cannot go back: another one holds its unique key by now
├── LockTimeout                  somebody's open transaction holds the unique key or the row; nothing was changed
├── StatementTimeout             (TimeoutError) a statement took longer than it may
├── ScheduleNotFound             (LookupError) no schedule has this name
├── ScheduleChanged              over HTTP, with `If-Match`: somebody has changed the schedule since it was read
├── WorkerNotFound               (LookupError) no live worker has this id
├── ApiKeyNotFound               (LookupError) no key of the HTTP API that was not revoked has this id or name
├── DrainTimeout                 (TimeoutError) jobs of a queue still run when `app.queues.drain(timeout=…)` is over
├── JobFailed                    `handle.result()`: the job ended in another state than `succeeded`
├── ResultTimeout                (TimeoutError) `handle.result(timeout=…)`: the job is not finished yet
├── RemoteError                  what a task raised in a process of its own, in words
└── ProcessEnded                 the process of a task ended before the task did
```

`EnqueueUnknown` has the jobs, so it is defined where they are: `rowlock.queue.enqueue.errors`.

A message says what was wrong, with what value, and what to do. Errors of the driver are kept as `__cause__`.
Arguments, results and DSNs never appear in a message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from uuid import UUID


class RowlockError(Exception):
    """The root of all of Rowlock's errors."""


class ConfigurationError(RowlockError):
    """A setting, a DSN or the database's state does not allow Rowlock to run. The command line exits with 2."""


class DatabaseUnavailable(ConfigurationError):
    """No PostgreSQL answers at the configured DSN, it refuses the login, or it takes no writes."""


class SchemaNotMigrated(ConfigurationError):
    """Rowlock's schema is missing in the database, or is older than this code: run `rowlock migrate`."""


class SchemaTooOld(SchemaNotMigrated):
    """Rowlock's schema was made by an older Rowlock than the one that runs: run `rowlock migrate`."""


class SchemaTooNew(ConfigurationError):
    """Rowlock's schema was migrated by a newer Rowlock than the one that runs: upgrade the package."""


class InvalidJob(RowlockError, ValueError):
    """An enqueue was refused before anything was stored."""


class UnknownTask(InvalidJob):
    """No task of this name is known to the application."""


class InvalidArguments(InvalidJob):
    """The arguments do not fit the task's parameters, are not JSON, or are too large."""


class InvalidOption(InvalidJob):
    """An option of a task, a job or a schedule (queue, priority, delay, key, …) makes no sense.

    `option` is its name; None where several do not fit each other, or it is none that is given by name.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class ScheduleExists(InvalidOption):
    """A schedule was to be created whose name another one has. Nothing was changed."""


class DuplicateJob(RowlockError):
    """Another job holds the unique key of the one that was to be enqueued, and that was to be an error.

    `job_id` is the id of the job which holds the key. Nothing was stored; a transaction of the caller's goes on.
    """

    def __init__(self, message: str, *, job_id: UUID) -> None:
        super().__init__(message)
        self.job_id = job_id


class InvalidResult(RowlockError, TypeError):
    """A handler returned a value that JSON cannot hold; the attempt counts as failed."""


class InsideEventLoop(RowlockError, RuntimeError):
    """A synchronous method was called in a thread that runs an event loop, which would stand still meanwhile."""


class JobNotFound(RowlockError, LookupError):
    """No job, live or finished, has this id."""


class OutsideHandler(RowlockError, RuntimeError):
    """What only a handler has, while it runs, was asked for elsewhere."""


class WrongState(RowlockError):
    """The `state` of a job or a worker does not allow what was asked. Nothing was changed.

    A retry of a job that succeeded, say, or a resume of a worker that is stopping.
    """

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message)
        self.state = state


class JobAlreadyFinished(WrongState):
    """The job that was to be cancelled has reached its final `state` before."""


class KeyHeld(RowlockError):
    """A finished job cannot go back, since another job holds its unique key by now. Nothing was changed."""


class LockTimeout(RowlockError):
    """An open transaction of somebody else's holds the unique key or the row that is needed, and does not end.

    Nothing was changed: try again once it is committed or rolled back.
    """


class StatementTimeout(RowlockError, TimeoutError):
    """A statement took longer than it may: it was cancelled, and the connection was not lost.

    The limits are Rowlock's (10 seconds, or 30 for what reads or writes much), and `statement_timeout` of the URL, the
    role or the database. The message says whether something may have changed.
    """


class ScheduleNotFound(RowlockError, LookupError):
    """No schedule has this name."""


class ScheduleChanged(RowlockError):
    """The schedule is not as it was when whoever wants to change it has read it. Nothing was changed."""


class WorkerNotFound(RowlockError, LookupError):
    """No live worker has this id."""


class ApiKeyNotFound(RowlockError, LookupError):
    """No key of the HTTP API has this id or name, or it is revoked already."""


class DrainTimeout(RowlockError, TimeoutError):
    """Jobs of the queue still ran when the timeout of `app.queues.drain(timeout=…)` was over. It stays paused."""


class StaleAttempt(RowlockError):
    """The job is no longer this attempt's: it was rescued from its worker, or ended by an operator.

    Nothing was stored.
    """


class JobFailed(RowlockError):
    """The job whose result was asked for has ended without one.

    `state` is its final state (`failed`, `cancelled` or `expired`) and `error` the text of its last error.
    """

    def __init__(self, message: str, *, state: str, error: str | None) -> None:
        super().__init__(message)
        self.state = state
        self.error = error


class ResultTimeout(RowlockError, TimeoutError):
    """The job was still not finished when the timeout of `handle.result(timeout=…)` ran out. The job goes on."""


class RemoteError(RowlockError):
    """What a task raised in a process of its own (`executor="process"`), as the worker knows it: in words.

    `type`, `message` and `traceback` are those of the exception; `kinds` the full names of its class and that class's
    bases, `builtins.ValueError` for instance.
    """

    def __init__(self, type: str, message: str, traceback: str, kinds: frozenset[str]) -> None:  # noqa: A002  # the word of the field
        super().__init__(f"{type}: {message}" if message else type)
        self.type = type
        self.message = message
        self.traceback = traceback
        self.kinds = kinds
        if traceback:
            self.add_note(traceback)


class ProcessEnded(RowlockError):
    """The process of a task (`executor="process"`) ended before the task did: by a signal, or by exiting."""
