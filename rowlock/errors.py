"""Every error that Rowlock raises, in one tree.

```
RowlockError
├── ConfigurationError           the set-up is wrong; each message names the remedy
│   ├── DatabaseUnavailable      no server answers at the DSN, it refuses the login, or it is read-only
│   ├── SchemaNotMigrated        the schema is missing, or older than this code needs
│   │   └── SchemaTooOld         an older Rowlock made the schema
│   └── SchemaTooNew             a newer Rowlock migrated the schema
├── InvalidJob                   (ValueError) an enqueue was refused; nothing was stored
│   ├── UnknownTask              no task has this name
│   ├── InvalidArguments         the arguments do not fit the task, are not JSON, or are too large
│   └── InvalidOption            an invalid queue, priority, delay, key, …
│       └── ScheduleExists       a schedule has this name already
├── DuplicateJob                 another job holds the unique key (`on_duplicate="raise"`); nothing was stored
├── EnqueueUnknown               the connection was lost during the enqueue: the jobs may be stored, or not
├── InvalidResult                (TypeError) a handler returned a value that JSON cannot represent
├── InsideEventLoop              (RuntimeError) a synchronous method was called where `await` is needed
├── JobNotFound                  (LookupError) no job has this id
├── OutsideHandler               (RuntimeError) only a running handler can do this
├── StaleAttempt                 the job no longer belongs to this attempt; nothing was stored
├── WrongState                   the state of the job or worker does not allow this; nothing was changed
│   └── JobAlreadyFinished       the job finished before the cancel
├── KeyHeld                      another job holds the unique key of the job that was to go back
├── LockTimeout                  an open transaction holds the unique key or the row; nothing was changed
├── StatementTimeout             (TimeoutError) a statement exceeded its time limit
├── ScheduleNotFound             (LookupError) no schedule has this name
├── ScheduleChanged              over HTTP, with `If-Match`: the schedule was changed since it was read
├── WorkerNotFound               (LookupError) no live worker has this id
├── ApiKeyNotFound               (LookupError) no unrevoked key of the HTTP API has this id or name
├── DrainTimeout                 (TimeoutError) jobs of a queue still ran after `app.queues.drain(timeout=…)`
├── JobFailed                    `handle.result()`: the job ended in another state than `succeeded`
├── ResultTimeout                (TimeoutError) `handle.result(timeout=…)`: the job has not finished yet
├── RemoteError                  a task in a process of its own raised this, described in text
└── ProcessEnded                 the process of a task ended before the task did
```

`EnqueueUnknown` contains the jobs, so it is defined beside them: `rowlock.queue.enqueue.errors`.

A message names what is wrong, the value, and the remedy. `__cause__` keeps the driver's error.
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
    """No PostgreSQL answers at the configured DSN, it refuses the login, or it is read-only."""


class SchemaNotMigrated(ConfigurationError):
    """Rowlock's schema is missing in the database, or older than this code: run `rowlock migrate`."""


class SchemaTooOld(SchemaNotMigrated):
    """An older Rowlock than the running one made the schema: run `rowlock migrate`."""


class SchemaTooNew(ConfigurationError):
    """A newer Rowlock than the running one migrated the schema: upgrade the package."""


class InvalidJob(RowlockError, ValueError):
    """An enqueue was refused before anything was stored."""


class UnknownTask(InvalidJob):
    """The application has no task of this name."""


class InvalidArguments(InvalidJob):
    """The arguments do not fit the task's parameters, are not JSON, or are too large."""


class InvalidOption(InvalidJob):
    """An option of a task, a job or a schedule (queue, priority, delay, key, …) is invalid.

    `option` is its name; None if several options conflict, or if the option is not passed by name.
    """

    def __init__(self, message: str, *, option: str | None = None) -> None:
        super().__init__(message)
        self.option = option


class ScheduleExists(InvalidOption):
    """Another schedule has the name of the one to be created. Nothing was changed."""


class DuplicateJob(RowlockError):
    """Another job holds the unique key (`on_duplicate="raise"`).

    `job_id` is the job that holds the key. Nothing was stored; the caller's transaction stays usable.
    """

    def __init__(self, message: str, *, job_id: UUID) -> None:
        super().__init__(message)
        self.job_id = job_id


class InvalidResult(RowlockError, TypeError):
    """A handler returned a value that JSON cannot represent; the attempt counts as failed."""


class InsideEventLoop(RowlockError, RuntimeError):
    """A synchronous method was called in a thread that runs an event loop; it would block the loop."""


class JobNotFound(RowlockError, LookupError):
    """No job, live or finished, has this id."""


class OutsideHandler(RowlockError, RuntimeError):
    """Code outside a running handler used something that only a running handler has."""


class WrongState(RowlockError):
    """The `state` of a job or a worker does not allow the operation. Nothing was changed.

    For example, a retry of a job that succeeded, or a resume of a worker that is stopping.
    """

    def __init__(self, message: str, *, state: str) -> None:
        super().__init__(message)
        self.state = state


class JobAlreadyFinished(WrongState):
    """The job reached its final `state` before the cancel."""


class KeyHeld(RowlockError):
    """A finished job cannot go back, because another job holds its unique key now. Nothing was changed."""


class LockTimeout(RowlockError):
    """Another open transaction holds the unique key or the row, and did not end in time.

    Nothing was changed: retry once that transaction is committed or rolled back.
    """


class StatementTimeout(RowlockError, TimeoutError):
    """A statement exceeded its time limit and was cancelled; the connection was not lost.

    The limits are Rowlock's (10 seconds, or 30 for statements that read or write many rows), and `statement_timeout` of
    the URL, the role or the database. The message states whether data may have changed.
    """


class ScheduleNotFound(RowlockError, LookupError):
    """No schedule has this name."""


class ScheduleChanged(RowlockError):
    """The schedule was changed since it was read, so nothing was done."""


class WorkerNotFound(RowlockError, LookupError):
    """No live worker has this id."""


class ApiKeyNotFound(RowlockError, LookupError):
    """No key of the HTTP API has this id or name, or it is revoked already."""


class DrainTimeout(RowlockError, TimeoutError):
    """Jobs of the queue still ran after the timeout of `app.queues.drain(timeout=…)`. The queue stays paused."""


class StaleAttempt(RowlockError):
    """The job no longer belongs to this attempt: it was rescued from its worker, or an operator ended it.

    Nothing was stored.
    """


class JobFailed(RowlockError):
    """The job ended without a result.

    `state` is its final state (`failed`, `cancelled` or `expired`) and `error` the text of its last error.
    """

    def __init__(self, message: str, *, state: str, error: str | None) -> None:
        super().__init__(message)
        self.state = state
        self.error = error


class ResultTimeout(RowlockError, TimeoutError):
    """The job did not finish within the timeout of `handle.result(timeout=…)`. The job goes on."""


class RemoteError(RowlockError):
    """A task in a process of its own (`executor="process"`) raised this exception, described in text.

    `type`, `message` and `traceback` are those of the exception; `kinds` are the full names of its class and of that
    class's bases, for example `builtins.ValueError`.
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
    """The process of a task (`executor="process"`) ended before the task: by a signal, or by exiting."""
