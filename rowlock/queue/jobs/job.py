"""A job as people see it, alive or finished."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Protocol, Self, TypeVar, overload
from uuid import UUID

import msgspec

from rowlock.errors import OutsideHandler
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.jobs.json_values import plain_json
from rowlock.queue.jobs.lifecycle import FINAL
from rowlock.queue.jobs.pending import TURN, Pending

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")

_LONGEST_ATTEMPT = 36_500 * 24 * 3600


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress that a job's handler reported: a `fraction` from 0 to 1, an optional `message`, the `attempt`."""

    fraction: float
    message: str | None
    attempt: int
    updated_at: Moment


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a handler logged: when, with which `level` (lower-case), by which `logger`, and its `text`."""

    attempt: int
    at: Moment
    level: str
    logger: str | None
    text: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any] | Record) -> list[Self]:
        """The lines of a row of `list_logs.sql`. A line written by hand in another form becomes JSON text."""
        data = plain_json(row["lines"])
        return [
            cls(
                attempt=row["attempt"],
                at=row["started_at"] + timedelta(seconds=line.after),
                level=line.level,
                logger=line.logger,
                text=line.text,
            )
            for line in map(_Line.of, data if isinstance(data, list) else [data])
        ]


class _Line(msgspec.Struct, frozen=True, kw_only=True):
    """A line as it is stored. `after` is seconds since the attempt began."""

    after: Annotated[float, msgspec.Meta(ge=0, le=_LONGEST_ATTEMPT)] = 0.0
    level: str = "info"
    logger: str | None = None
    text: str

    @classmethod
    def of(cls, data: object) -> Self:
        try:
            return msgspec.convert(data, cls)
        except msgspec.ValidationError:
            return cls(text=msgspec.json.encode(data).decode())


class Runtime(Protocol):
    """The running attempt behind a handler's own job, as the worker provides it."""

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended: nothing can act on its behalf any more."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """Whether an operator has asked this attempt to stop."""
        ...

    def report(self, fraction: float, message: str | None) -> None:
        """Store the progress, soon."""
        ...

    def save_checkpoint(self, data: object) -> Pending[None]:
        """Save the data for the attempts to come."""
        ...

    def load_checkpoint(self) -> Pending[Any]:
        """Load the last checkpoint."""
        ...

    def transaction(self, connection: object) -> AbstractAsyncContextManager[Any]:
        """A transaction that ends with the success of the job."""
        ...

    def set_result(self, value: object) -> None:
        """Set the result that the transaction stores."""
        ...


class Job(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One job, as its row was when it was read. A handler with a parameter annotated `Job` receives its own job.

    `state` is one of queued, scheduled, retrying, running, blocked, succeeded, failed, cancelled, expired. `attempt`
    counts the runs from 1 and never goes down; `errors` counts those that used up one of `max_attempts`; `crashes`
    those that crashed their worker. `args_version` is the version of the task for which `args` are written: as they
    were enqueued; in its handler, after the upcasters, that of the handler's code. `expires_at` and `deadline` are
    present while the job is alive. `is_sensitive`: the task hides the arguments, errors and results of its jobs from
    people who look at jobs from outside. Times are aware `datetime`s by the database's clock.

    >>> @app.task
    ... async def sync_account(job: Job, account: int) -> None:
    ...     print(f"attempt {job.attempt} of job {job.id}")
    """

    id: UUID
    state: str
    queue: str
    task: str
    priority: int
    args_json: str
    attempt: int
    max_attempts: int
    errors: int
    crashes: int
    created_at: datetime
    run_at: datetime
    args_version: int = 1
    unique_key: str | None = None
    timeout: timedelta | None = None
    expires_at: datetime | None = None
    deadline: datetime | None = None
    error: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    worker: UUID | None = None
    result_json: str | None = None
    cancel_requested_at: datetime | None = None
    discarded_at: datetime | None = None
    tags: list[str] = []
    metadata_json: str | None = None
    is_sensitive: bool = False
    trace: str | None = None
    """The W3C trace context of the enqueue, a `traceparent`, for tracing."""
    last_progress: Progress | None = None
    """The handler's last report, of any attempt; None if there is none. Jobs of a list do not have it."""
    _runtime: Runtime | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | Record, runtime: Runtime | None = None) -> Self:
        """The job of a row that `get_job.sql`, `list_jobs.sql` or `claim.sql` returned; some drivers decode metadata.

        `runtime` is the attempt that runs it here, for the handler's own job.
        """
        metadata = row.get("metadata")
        given = {name: row[name] for name in cls.__struct_fields__ if name in row and name != "tags"}
        if times := row.get("times"):
            _, given["expires_at"], given["deadline"], _ = times
        return cls(
            args_json=row["args"],
            result_json=row.get("result"),
            tags=row.get("tags") or [],
            metadata_json=msgspec.json.encode(metadata).decode() if isinstance(metadata, dict) else metadata,
            last_progress=_progress(row),
            _runtime=runtime,
            **given,
        )

    def __repr__(self) -> str:
        return f"<Job {self.id} task={self.task} state={self.state} attempt={self.attempt}>"

    def redacted(self) -> Self:
        """The job without the data of a sensitive task: arguments, result, error, unique key and progress."""
        if not self.is_sensitive:
            return self
        return msgspec.structs.replace(
            self, args_json="{}", result_json=None, error=None, unique_key=None, last_progress=None
        )

    @property
    def args(self) -> dict[str, Any]:
        """Its arguments, as plain JSON data, parsed at each use.

        A value that Python cannot read stays as JSON text: a number of too many digits, and a value nested deeper than
        64 levels. Only a row written by hand contains such a value.
        """
        args: dict[str, Any] = plain_json(self.args_json)
        return args

    @property
    def metadata(self) -> dict[str, str]:
        """Its metadata: texts by key, parsed at each use; empty if it has none."""
        return {} if self.metadata_json is None else msgspec.json.decode(self.metadata_json)

    @property
    def is_finished(self) -> bool:
        """Whether the job has reached its final state."""
        return self.state in FINAL

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was cancelled; in its own handler: whether its cancel has been requested by now.

        For plain functions, which cannot be stopped from outside: check now and then, and raise or return.

        >>> for row in rows:
        ...     if job.is_cancelled:
        ...         raise Cancel("stopped half-way")
        """
        return self.state == "cancelled" or (self._runtime is not None and self._runtime.is_cancelled)

    @property
    def result(self) -> Any:  # noqa: ANN401  # any JSON
        """The handler's result, as plain JSON data; None while the job has not succeeded."""
        return None if self.result_json is None else plain_json(self.result_json)

    def progress(self, fraction: float, message: str | None = None) -> Awaitable[None]:
        """Report progress: a `fraction` from 0 to 1, and a message of up to 500 bytes.

        The worker stores the report at once if the last one is a second old; else it stores the latest report at the
        end of that second, or when the attempt ends. Awaiting it gives the event loop a turn; a plain function calls it
        without. Read it as `(await app.get(id)).last_progress`. Raises `InvalidOption`, and `OutsideHandler` on a job
        that was read.

        >>> await job.progress(0.4, "resizing")
        """
        runtime = self._inside("progress()")
        runtime.report(*checks.progress(fraction, message))
        return TURN

    def save_checkpoint(self, data: object) -> Pending[None]:
        """Save the point from which a later attempt of this job continues: JSON data, as large as a result may be.

        Durable once the await (in a plain function: `.wait()`) returns. Raises `InvalidResult` for data that JSON
        cannot contain, `StaleAttempt` if the job is no longer this attempt's, and `OutsideHandler` on a job that was
        read.

        >>> await job.save_checkpoint({"page": 7})
        """
        return self._inside("save_checkpoint()").save_checkpoint(data)

    def load_checkpoint(self) -> Pending[Any]:
        """Load the last checkpoint of this job, as plain JSON data; None if there is none.

        Raises `OutsideHandler` on a job that was read.

        >>> start = await job.load_checkpoint() or {"page": 1}
        """
        return self._inside("load_checkpoint()").load_checkpoint()

    @overload
    def transaction(self) -> AbstractAsyncContextManager[PoolConnectionProxy[Record]]: ...
    @overload
    def transaction(self, connection: T) -> AbstractAsyncContextManager[T]: ...
    def transaction(self, connection: object = None) -> AbstractAsyncContextManager[Any]:
        """Open a transaction whose commit, at the end of the block, also records the success of this job.

        Without `connection` it uses an asyncpg connection of the worker; or give one (an asyncpg connection outside of
        transactions, an `AsyncSession` or `AsyncConnection` over asyncpg). A crash before the commit leaves nothing of
        the transaction; after the commit the job has succeeded and does not run again. An error in the block rolls the
        transaction back. `job.set_result(...)` sets the result. The handler cannot change the outcome after the block.

        Raises `StaleAttempt`, and rolls back, if the job is no longer this attempt's; `InvalidOption` for an unusable
        connection, and for a second transaction.

        >>> async with job.transaction() as connection:
        ...     await connection.execute("UPDATE account SET balance = balance - 5 WHERE id = $1", account)
        """
        return self._inside("transaction()").transaction(connection)

    def set_result(self, value: object) -> None:
        """Set the job's result in `job.transaction()`: the commit stores it, and the handler's return value is ignored.

        Raises `InvalidResult` for a value that JSON cannot contain, and `OutsideHandler` outside of such a block.
        """
        self._inside("set_result()").set_result(value)

    def _inside(self, what: str) -> Runtime:
        """The attempt that runs this job here. Raises `OutsideHandler`, naming the call."""
        if self._runtime is None or self._runtime.is_over:
            raise OutsideHandler(
                f"job.{what} works only inside the handler of this job, while it runs. Use the job that the handler "
                "receives in a parameter annotated `Job`, not one that was read."
            )
        return self._runtime


def _progress(row: Mapping[str, Any] | Record) -> Progress | None:
    if row.get("fraction") is None:
        return None
    return Progress(
        fraction=row["fraction"],
        message=row["message"],
        attempt=row["progress_attempt"],
        updated_at=row["progress_updated_at"],
    )
