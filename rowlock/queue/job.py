"""A job as people see it: one to be enqueued, a handle on one that was, and the job itself, alive or finished."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, Self, TypeVar, cast, overload
from uuid import UUID

import msgspec

from rowlock.errors import JobFailed, OutsideHandler, ResultTimeout
from rowlock.queue import options
from rowlock.queue.lifecycle import FINAL
from rowlock.queue.pending import TURN, Pending
from rowlock.queue.results import decode_result
from rowlock.queue.unique import Unique

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    from asyncpg import Record
    from asyncpg.pool import PoolConnectionProxy

    from rowlock.queue.client import Client

LONGEST_NUMBER: Final = 4000

R = TypeVar("R")
T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)

_POLL_FIRST = 0.02
_POLL_MOST = 0.5
_NET_FIRST = 0.25
_NET_MOST = 5.0
"""The pauses between two looks of those who are notified: the net under a notification that got lost."""
_WANTED_EVERY = 0.5


class JobOptions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The options of a job, checked: those of its task, unless `task.using(...)` gave others. Many jobs share one."""

    queue: str
    priority: int
    max_attempts: int
    timeout: timedelta | None = None
    delay: timedelta | None = None
    run_at: datetime | None = None
    unique: Unique | None = None
    expires: timedelta | datetime | None = None
    deadline: timedelta | datetime | None = None
    tags: tuple[str, ...] | None = None
    trace: str | None = None

    @property
    def are_plain(self) -> bool:
        """Whether a job of these options is due at once, with nothing of its own but a queue and numbers."""
        return (
            self.delay is None
            and self.run_at is None
            and self.timeout is None
            and self.unique is None
            and self.expires is None
            and self.deadline is None
            and self.tags is None
            and self.trace is None
        )


class NewJob(msgspec.Struct, Generic[R], frozen=True, gc=False):
    """A job that is not enqueued yet: what `task.job(...)` makes and `app.enqueue_many([...])` takes.

    Its arguments have been checked and are JSON already. Its id is fixed: enqueuing it twice stores it once.
    `unique_key` is its key as it is stored, in the scope of its task (`task:key`) or of none (`:key`). `args_version`
    is the version of the task for which the arguments are written.
    """

    id: UUID
    task: str
    args: str
    options: JobOptions
    unique_key: str | None = None
    args_version: int = 1


class JobHandle(msgspec.Struct, Generic[R_co], frozen=True, eq=False, gc=False):
    """A reference to an enqueued job: its `id`, and the way to its result.

    `is_duplicate` says that no new job was stored because of its unique key: `id` is then that of the job which holds
    the key. The job exists once the transaction that it was enqueued in has committed.

    >>> handle = await send_email.enqueue("ada@example.com", "Hi", "…")
    >>> await handle.result(timeout=30)
    """

    id: UUID
    task: str
    is_duplicate: bool
    _client: Client
    _returns: Any

    async def get(self) -> Job:
        """The job as it is now. Raises `JobNotFound` if its transaction has not committed, or was rolled back."""
        return await self._client.get(self.id)

    async def logs(self) -> list[LogLine]:
        """The lines that the job's ended attempts have logged, if its task has `capture_logs`."""
        return await self._client.logs(self.id)

    async def result(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait until the job has finished, and return what its handler returned, converted to the annotated type.

        None also where the task's `result_ttl` is over.

        `timeout` (seconds, or a `timedelta`; None: no limit) ends the waiting, not the job: raises `ResultTimeout`.
        Raises `JobFailed` if the job ended as failed, cancelled or expired, and `JobNotFound`.
        """
        limit = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        job = await wait_until_finished(self._client, self.id, limit)
        if not job.is_finished:
            raise ResultTimeout(f"Job {self.id} ({self.task}) is still {job.state} after {limit} s; it goes on.")
        return cast("R_co", job._outcome(self._returns))  # noqa: SLF001  # the same module's

    def get_sync(self) -> Job:
        """As `get`, for synchronous programs. Raises `InsideEventLoop` where one must await."""
        return self._client.run_sync(self.get())

    def result_sync(self, timeout: timedelta | float | None = None) -> R_co:
        """As `result`, for synchronous programs. Raises `InsideEventLoop` where one must await."""
        return self._client.run_sync(self.result(timeout))

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} task={self.task}{' duplicate' if self.is_duplicate else ''}>"


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a job's handler said that it is: a `fraction` from 0 to 1, perhaps a `message`, in which `attempt`."""

    fraction: float
    message: str | None
    attempt: int
    updated_at: datetime


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """A line that a handler logged: when, with which `level` (lower-case), by which `logger`, and its `text`."""

    attempt: int
    at: datetime
    level: str
    logger: str | None
    text: str

    @classmethod
    def of_row(cls, row: Mapping[str, Any] | Record) -> list[Self]:
        """The lines of a row of `list_logs.sql`."""
        return [
            cls(
                attempt=row["attempt"],
                at=row["started_at"] + timedelta(seconds=line["after"]),
                level=line["level"],
                logger=line["logger"],
                text=line["text"],
            )
            for line in plain_json(row["lines"])
        ]


class Runtime(Protocol):
    """What the worker gives to a handler's own job: the running attempt behind it."""

    @property
    def is_over(self) -> bool:
        """Whether the attempt has ended: nothing can be done in its name any more."""
        ...

    @property
    def is_cancelled(self) -> bool:
        """Whether an operator wants this attempt to stop."""
        ...

    def report(self, fraction: float, message: str | None) -> None:
        """Write the progress down, soon."""
        ...

    def save_checkpoint(self, data: object) -> Pending[None]:
        """Save the data for the attempts to come."""
        ...

    def load_checkpoint(self) -> Pending[Any]:
        """What was saved last."""
        ...

    def transaction(self, connection: object) -> AbstractAsyncContextManager[Any]:
        """A transaction that ends with the success of the job."""
        ...

    def set_result(self, value: object) -> None:
        """The result that the transaction stores."""
        ...


class Job(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One job, as its row was when it was read. A handler with a parameter annotated `Job` is given its own.

    `state` is one of queued, scheduled, retrying, running, blocked, succeeded, failed, cancelled, expired. `attempt`
    counts the runs from 1 and never goes down; `errors` counts those that used up one of `max_attempts`; `crashes`
    those that took their worker down. `args_version` is the version of the task for which `args` are written: as they
    were enqueued; in its handler, after the upcasters, that of the handler's code. `expires_at` and `deadline` are
    there while the job is alive. `is_sensitive`: its task hides, from those who look at jobs from outside, what they
    were given and what they produce. Times are aware `datetime`s by the database's clock.

    >>> @app.task
    ... async def sync_account(job: Job, account: int) -> None:
    ...     print(f"attempt {job.attempt} of job {job.id}")
    """

    id: UUID
    state: str
    queue: str
    task: str
    priority: int
    args: dict[str, Any]
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
    is_sensitive: bool = False
    trace: str | None = None
    """The W3C trace context that it was enqueued in: a `traceparent`. For whoever traces what happens."""
    last_progress: Progress | None = None
    """What the handler reported last, in whichever attempt; None if nothing. Jobs of a list do not have it."""
    _runtime: Runtime | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any] | Record, runtime: Runtime | None = None) -> Self:
        """The job of a row that `get_job.sql`, `list_jobs.sql` or `claim.sql` returned.

        `runtime` is the attempt that runs it here, for the handler's own job.
        """
        given = {name: row[name] for name in cls.__struct_fields__ if name in row and name not in {"args", "tags"}}
        if times := row.get("times"):
            _, given["expires_at"], given["deadline"], _ = times
        return cls(
            args=plain_json(row["args"]),
            result_json=row.get("result"),
            tags=row.get("tags") or [],
            last_progress=_progress(row),
            _runtime=runtime,
            **given,
        )

    def __repr__(self) -> str:
        return f"<Job {self.id} task={self.task} state={self.state} attempt={self.attempt}>"

    def redacted(self) -> Self:
        """The job as those may see it who are shown nothing that a sensitive task was given or has produced."""
        if not self.is_sensitive:
            return self
        return msgspec.structs.replace(self, args={}, result_json=None, error=None, unique_key=None, last_progress=None)

    @property
    def is_finished(self) -> bool:
        """Whether the job has reached its final state."""
        return self.state in FINAL

    @property
    def is_cancelled(self) -> bool:
        """Whether the job was cancelled; inside its own handler: whether somebody wants that, as of now.

        For plain functions, which nobody can stop from outside: ask now and then, and raise or return.

        >>> for row in rows:
        ...     if job.is_cancelled:
        ...         raise Cancel("stopped half-way")
        """
        return self.state == "cancelled" or (self._runtime is not None and self._runtime.is_cancelled)

    @property
    def result(self) -> Any:  # noqa: ANN401  # any JSON
        """What the handler returned, as plain JSON data; None while the job has not succeeded."""
        return None if self.result_json is None else plain_json(self.result_json)

    def progress(self, fraction: float, message: str | None = None) -> Awaitable[None]:
        """Report how far the handler is: a `fraction` from 0 to 1, and what it is at, up to 500 bytes.

        It is written at once if the last report is a second old, else at the end of that second, the latest one alone,
        and at the latest when the attempt ends. Awaiting it gives the event loop a turn; a plain function calls it
        without. It is read as `(await app.get(id)).last_progress`. Raises `InvalidOption`, and `OutsideHandler` on a
        job that was read.

        >>> await job.progress(0.4, "resizing")
        """
        runtime = self._inside("progress()")
        runtime.report(*options.progress(fraction, message))
        return TURN

    def save_checkpoint(self, data: object) -> Pending[None]:
        """Save where a later attempt of this job shall go on: JSON data, as large as a result may be.

        Durable once the await (in a plain function: `.wait()`) returns. Raises `InvalidResult` for what JSON cannot
        hold, `StaleAttempt` if the job is no longer this attempt's, and `OutsideHandler` on a job that was read.

        >>> await job.save_checkpoint({"page": 7})
        """
        return self._inside("save_checkpoint()").save_checkpoint(data)

    def load_checkpoint(self) -> Pending[Any]:
        """What an attempt of this job has saved last, as plain JSON data; None if nothing was.

        Raises `OutsideHandler` on a job that was read.

        >>> start = await job.load_checkpoint() or {"page": 1}
        """
        return self._inside("load_checkpoint()").load_checkpoint()

    @overload
    def transaction(self) -> AbstractAsyncContextManager[PoolConnectionProxy[Record]]: ...
    @overload
    def transaction(self, connection: T) -> AbstractAsyncContextManager[T]: ...
    def transaction(self, connection: object = None) -> AbstractAsyncContextManager[Any]:
        """Open a transaction whose commit, at the end of the block, is the success of this job as well.

        Without `connection` it is one of asyncpg's, of the worker's own; or give one (an asyncpg connection outside of
        transactions, an `AsyncSession` or `AsyncConnection` over asyncpg). A crash before the commit leaves nothing of
        it, after it the job has succeeded and does not run again. An error in the block rolls it back.
        `job.set_result(...)` gives the result. What the handler does after the block changes nothing any more.

        Raises `StaleAttempt`, rolling back, if the job is no longer this attempt's; `InvalidOption` for a connection
        that cannot be used, and for a second transaction.

        >>> async with job.transaction() as connection:
        ...     await connection.execute("UPDATE account SET balance = balance - 5 WHERE id = $1", account)
        """
        return self._inside("transaction()").transaction(connection)

    def set_result(self, value: object) -> None:
        """Give the job's result, inside of `job.transaction()`: its commit stores it, not the handler's return.

        Raises `InvalidResult` for what JSON cannot hold, and `OutsideHandler` outside of such a block.
        """
        self._inside("set_result()").set_result(value)

    def _inside(self, what: str) -> Runtime:
        """The attempt that runs this job here. Raises `OutsideHandler`, naming what was asked for."""
        if self._runtime is None or self._runtime.is_over:
            raise OutsideHandler(
                f"job.{what} works only inside the handler of this job, while it runs: on the job that a parameter "
                "annotated `Job` is given, not on one that was read."
            )
        return self._runtime

    def _outcome(self, returns: object) -> object:
        if self.state == "succeeded":
            return decode_result(self.result_json, returns)
        raise JobFailed(
            f"Job {self.id} ({self.task}) has {self.state}{f': {self.error}' if self.error else ''}",
            state=self.state,
            error=self.error,
        )


async def wait_until_finished(
    client: Client, job_id: UUID | str, seconds: float | None, *, is_wanted: Callable[[], bool] = lambda: True
) -> Job:
    """The job once it has finished; or as it is after `seconds` (None: no limit), or when nobody wants it any more.

    The end of the job wakes it by a notification, which all waits of an application hear over one connection. It looks
    for itself besides, at growing pauses: all there is where the settings allow no LISTEN. Raises `JobNotFound`.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if seconds is None else clock() + seconds
    job = await client.get(job_id)
    if job.is_finished or (seconds is not None and seconds <= 0) or not is_wanted():
        return job
    async with client.watch(job.id) as notified:
        pause, most = (_POLL_FIRST, _POLL_MOST) if notified is None else (_NET_FIRST, _NET_MOST)
        told = notified or asyncio.Event()
        while True:
            told.clear()
            job = await client.get(job_id)
            if job.is_finished or (deadline is not None and clock() >= deadline) or not is_wanted():
                return job
            look_at = clock() + pause if deadline is None else min(clock() + pause, deadline)
            pause = min(pause * 1.5, most)
            while is_wanted() and not told.is_set() and (left := look_at - clock()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _WANTED_EVERY)):
                        await told.wait()


def _progress(row: Mapping[str, Any] | Record) -> Progress | None:
    if row.get("fraction") is None:
        return None
    return Progress(
        fraction=row["fraction"],
        message=row["message"],
        attempt=row["progress_attempt"],
        updated_at=row["progress_updated_at"],
    )


def plain_json(text: str) -> Any:  # noqa: ANN401  # any JSON
    """The data of a JSON text from the database; a number too long for Python to read stays as text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return json.loads(text, parse_int=lambda digits: digits if len(digits) > LONGEST_NUMBER else int(digits))
