"""A handle on a job that was enqueued: the way to its result, and the wait for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast
from uuid import UUID

import msgspec

from rowlock import logs
from rowlock.errors import DatabaseUnavailable, JobFailed, ResultTimeout
from rowlock.queue.connect.asking import ask
from rowlock.queue.jobs import checks
from rowlock.queue.jobs.results import decode_result
from rowlock.queue.read.reader import get_job, list_logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from rowlock.queue.connect.database import Database
    from rowlock.queue.jobs.job import Job, LogLine

log = logs.get_logger("rowlock.client")

R_co = TypeVar("R_co", covariant=True)

_POLL_FIRST = 0.02
_POLL_MOST = 0.5
_NET_FIRST = 0.25
_NET_MOST = 5.0
"""The pauses between two polls of a notified wait: the fallback for a lost notification."""
_WANTED_EVERY = 0.5
_LAST_LOOK = 0.5
"""A poll that has begun in time may take this much longer."""


class JobHandle(msgspec.Struct, Generic[R_co], frozen=True, eq=False, gc=False):
    """A reference to an enqueued job: its `id`, and the way to its result.

    `is_duplicate`: no new job was stored because of its unique key; `id` is then that of the job which holds the key.
    The job exists once the transaction of its enqueue has committed.

    >>> handle = await send_email.enqueue("ada@example.com", "Hi", "…")
    >>> await handle.result(timeout=30)
    """

    id: UUID
    task: str
    is_duplicate: bool
    _database: Database
    _returns: Any

    async def get(self) -> Job:
        """The job as it is now. Raises `JobNotFound` if its transaction has not committed, or was rolled back."""
        return await get_job(self._database, self.id)

    async def logs(self) -> list[LogLine]:
        """The lines that the job's ended attempts have logged, if its task has `capture_logs`."""
        return await list_logs(self._database, self.id)

    async def result(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait until the job has finished, and return its handler's result, converted to the annotated type.

        Returns None, too, once the task's `result_ttl` is over.

        `timeout` (seconds, or a `timedelta`; None: no limit) ends the wait, not the job: raises `ResultTimeout`. The
        wait continues while the database is away. Raises `JobFailed` if the job ended as failed, cancelled or expired,
        `JobNotFound`, and `InvalidOption` for an invalid `timeout`, like NaN.
        """
        checks.wait(timeout)
        limit = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        try:
            job = await wait_until_finished(self._database, self.id, limit)
        except DatabaseUnavailable as error:
            raise ResultTimeout(
                f"Job {self._named} may still run: the database did not answer for {limit} s."
            ) from error
        if not job.is_finished:
            raise ResultTimeout(f"Job {self._named} is still {job.state} after {limit} s. The job goes on.")
        return cast("R_co", _outcome(job, self._returns))

    def get_sync(self) -> Job:
        """Get the job from a synchronous program, like `get`. Raises `InsideEventLoop` in a running event loop."""
        return self._database.run_sync(self.get())

    def result_sync(self, timeout: timedelta | float | None = None) -> R_co:
        """Wait from a synchronous program, like `result`. Raises `InsideEventLoop` in a running event loop."""
        return self._database.run_sync(self.result(timeout))

    @property
    def _named(self) -> str:
        return f"{self.id} ({self.task})" if self.task else str(self.id)

    def __repr__(self) -> str:
        return f"<JobHandle {self.id} task={self.task}{' duplicate' if self.is_duplicate else ''}>"


async def wait_until_finished(
    database: Database, job_id: UUID | str, seconds: float | None, *, is_wanted: Callable[[], bool] = lambda: True
) -> Job:
    """Return the job once it has finished; or as it is after `seconds` (None: no limit), or when it is not wanted.

    The end of the job wakes this by a notification; all waits of an application listen over one connection. It also
    polls, at growing pauses, which is all it does where the settings allow no LISTEN. It retries a database that is
    away until `seconds` are over. Raises `JobNotFound`, and `DatabaseUnavailable` if it was away at the end.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if seconds is None else clock() + seconds
    limit = None if deadline is None or seconds == 0 else deadline + _LAST_LOOK
    job = await _look(database, job_id, deadline, limit, is_wanted)
    if job.is_finished or (deadline is not None and clock() >= deadline) or not is_wanted():
        return job
    async with database.watch(job.id) as notified:
        pause, most = (_POLL_FIRST, _POLL_MOST) if notified is None else (_NET_FIRST, _NET_MOST)
        told = notified or asyncio.Event()
        while True:
            told.clear()
            job = await _look(database, job_id, deadline, limit, is_wanted)
            # seam: wait is over
            if job.is_finished or (deadline is not None and clock() >= deadline) or not is_wanted():
                return job
            look_at = clock() + pause if deadline is None else min(clock() + pause, deadline)
            pause = min(pause * 1.5, most)
            while is_wanted() and not told.is_set() and (left := look_at - clock()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, _WANTED_EVERY)):
                        await told.wait()


async def _look(
    database: Database,
    job_id: UUID | str,
    deadline: float | None,
    limit: float | None,
    is_wanted: Callable[[], bool],
) -> Job:
    """Read the job. Retry until the deadline while the database is away; no read outlasts the limit."""
    return await ask(
        database,
        lambda: get_job(database, job_id),
        deadline=deadline,
        limit=limit,
        is_wanted=is_wanted,
        on_away=lambda error: log.warning("result_waits_for_database", job_id=str(job_id), error=type(error).__name__),
    )


def _outcome(job: Job, returns: object) -> object:
    if job.state == "succeeded":
        return decode_result(job.result_json, returns)  # seam: result
    raise JobFailed(
        f"Job {job.id} ({job.task}) has {job.state}{f': {job.error}' if job.error else ''}",
        state=job.state,
        error=job.error,
    )
