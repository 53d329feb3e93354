"""Unique keys whose holders are in other queues than the client's.

A client limited to queues must neither see such a holder nor change it by `on_duplicate`. So an enqueue that finds a
holder rolls back, checks the holder's queue outside the transaction, and retries.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

from rowlock.api.http.problems import DUPLICATE_JOB, Refused
from rowlock.errors import DuplicateJob, JobNotFound
from rowlock.queue.read.reader import get_job

if TYPE_CHECKING:
    from rowlock.api.routing.routes import Call
    from rowlock.queue.read.handle import JobHandle

T = TypeVar("T")

TRIES: Final = 5


class Holders:
    """The jobs that hold the unique keys of one request."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._seen: set[UUID] = set()

    @property
    def are_limited(self) -> bool:
        """Whether this access is limited to queues: then it enqueues in a transaction."""
        return self._call.access.queues is not None

    def require(self, stored: Sequence[JobHandle[Any]]) -> None:
        """Check, in the transaction, that the client may see all these jobs; raise to roll back otherwise."""
        if self.are_limited:
            new = {handle.id for handle in stored if not handle.is_duplicate}
            unknown = {handle.id for handle in stored} - new - self._seen
            if unknown:
                raise _Unknown(unknown)

    async def heed(self, enqueue: Callable[[], Awaitable[T]]) -> T:
        """Enqueue, and retry once the holders are checked. Raises `Refused` for a holder of another queue."""
        for _ in range(TRIES):
            try:
                return await enqueue()
            except _Unknown as unknown:
                for job in unknown.jobs:
                    await self._look(job)
            except DuplicateJob as error:
                await self._look(error.job_id)
                raise
        raise Refused(DUPLICATE_JOB, "The holder of the unique key changes too fast: retry.", field="unique")

    async def _look(self, job: UUID) -> None:
        with suppress(JobNotFound):  # it is gone, or was rolled back
            if not self._call.access.sees((await get_job(self._call.rowlock.database, job)).queue):
                detail = "A job of another queue holds the unique key. Use another unique key."
                raise Refused(DUPLICATE_JOB, detail, field="unique")
        self._seen.add(job)


class _Unknown(Exception):
    """These jobs hold unique keys, and their queues are unknown."""

    def __init__(self, jobs: set[UUID]) -> None:
        super().__init__(jobs)
        self.jobs = jobs
