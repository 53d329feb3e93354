"""The error of an enqueue whose answer was lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rowlock.errors import RowlockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rowlock.queue.jobs.new_job import NewJob


class EnqueueUnknown(RowlockError):
    """The connection was lost before the database answered an enqueue: the jobs may be stored, or not.

    `jobs` are the jobs, with their ids. Enqueue them again, now or at any later time: jobs that are stored already,
    waiting, running or finished, stay unchanged.

    >>> try:
    ...     job = await send_email.enqueue("ada@example.com", "Hi", "…")
    ... except EnqueueUnknown as error:
    ...     (job,) = await app.enqueue_many(error.jobs)
    """

    def __init__(self, message: str, *, jobs: Sequence[NewJob[Any]]) -> None:
        super().__init__(message)
        self.jobs = jobs
