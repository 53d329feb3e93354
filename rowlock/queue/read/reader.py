"""What an application does with the queue: enqueue and read."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from rowlock.errors import JobNotFound
from rowlock.queue.enqueue.store import Storing, uuid_of
from rowlock.queue.jobs.filter import ALL, JobFilter, Sight
from rowlock.queue.jobs.job import Job, LogLine
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.read import pages
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rowlock.queue.read.pages import JobPage


class Client(Storing):
    """The queue as an application sees it; one per process is enough."""

    async def get(self, job_id: UUID | str, connection: object = None) -> Job:
        """The job, alive or finished, as the caller's transaction sees it if given. Raises `JobNotFound`."""
        rows = await self.tell(connection, "get_job", parse_id(job_id))
        if not rows:
            raise no_job(job_id)
        return Job.from_row(rows[0])

    async def foreign_holders(
        self, jobs: Iterable[NewJob[Any]], holders: Iterable[UUID], connection: object = None
    ) -> dict[UUID, str]:
        """The tasks of the jobs that hold a key which one of these jobs has asked for across tasks."""
        across = [
            holder
            for job, holder in zip(jobs, holders, strict=True)
            if job.id != holder and job.options.unique is not None and job.options.unique.across_tasks
        ]
        if not across:
            return {}
        rows = await self.tell(connection, "list_tasks_of", across)
        return {uuid_of(row[0]): row[1] for row in rows}

    async def list_jobs(
        self,
        which: JobFilter | None = None,
        *,
        before: UUID | None = None,
        limit: int = 50,
        sight: Sight = ALL,
        has_documents: bool = True,
    ) -> JobPage:
        """A page of at most 500 jobs, newest first; `before` is the last id of the page before."""
        return await pages.list_jobs(
            self, which or JobFilter(), before=before, limit=limit, sight=sight, has_documents=has_documents
        )

    async def attempts(self, job_id: UUID) -> list[Mapping[str, Any]]:
        """The job's attempts that did not simply succeed, in their order: the columns of the table `attempt`."""
        return [dict(row) for row in await self.fetch("list_attempts", job_id)]

    async def logs(self, job_id: UUID | str) -> list[LogLine]:
        """The lines that the job's attempts have logged, in their order. Raises `JobNotFound` for what can be no id."""
        return [line for row in await self.fetch("list_logs", parse_id(job_id)) for line in LogLine.of_row(row)]


def no_job(job_id: UUID | str) -> JobNotFound:
    """The error that no job has this id: the same for each that asks, whatever it may not see."""
    return JobNotFound(f"There is no job {job_id}: it was never committed, or retention has removed it.")


def parse_id(text: UUID | str) -> UUID:
    """The id, from its text. Raises `JobNotFound` for what can be no job's id."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise JobNotFound(f"There is no job {quoted(text)}: a job's id is a UUID.") from error
