"""Who holds a unique key, where whoever asks sees the jobs of some queues alone.

A key can be that of a job in another queue. Whoever is limited must neither be told of it nor, by `on_duplicate`,
change it: what was found to hold a key is looked at after a rollback, as it was before, and then all is tried again.
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
        """Whether there are jobs that this access does not see: then it enqueues in a transaction."""
        return self._call.access.queues is not None

    def require(self, stored: Sequence[JobHandle[Any]]) -> None:
        """Make sure, in the transaction, that all these may be told of; otherwise it is to be rolled back."""
        if self.are_limited:
            new = {handle.id for handle in stored if not handle.is_duplicate}
            unknown = {handle.id for handle in stored} - new - self._seen
            if unknown:
                raise _Unknown(unknown)

    async def heed(self, enqueue: Callable[[], Awaitable[T]]) -> T:
        """Enqueue, once it is known who holds the keys. Raises `Refused` if that is a job which is not seen."""
        for _ in range(TRIES):
            try:
                return await enqueue()
            except _Unknown as unknown:
                for job in unknown.jobs:
                    await self._look(job)
            except DuplicateJob as error:
                await self._look(error.job_id)
                raise
        raise Refused(DUPLICATE_JOB, "Who holds the unique key changes too fast: try again.", field="unique")

    async def _look(self, job: UUID) -> None:
        with suppress(JobNotFound):  # it is gone, or was one of those that were rolled back
            if not self._call.access.sees((await get_job(self._call.rowlock.database, job)).queue):
                detail = "A job of another queue, which this key is not for, holds the unique key: use another one."
                raise Refused(DUPLICATE_JOB, detail, field="unique")
        self._seen.add(job)


class _Unknown(Exception):
    """These jobs hold unique keys, and it is not known of which queues they are."""

    def __init__(self, jobs: set[UUID]) -> None:
        super().__init__(jobs)
        self.jobs = jobs
