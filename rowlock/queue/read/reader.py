"""Read one job: its row, its attempts, its log."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from rowlock.errors import JobNotFound
from rowlock.queue.connect.drivers import uuid_of
from rowlock.queue.jobs.job import Job, LogLine
from rowlock.words import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from rowlock.queue.connect.database import Database
    from rowlock.queue.jobs.new_job import NewJob


async def get_job(database: Database, job_id: UUID | str, connection: object = None) -> Job:
    """The job, alive or finished, as the caller's transaction sees it, if one is given. Raises `JobNotFound`."""
    rows = await database.run("get_job", parse_id(job_id), connection=connection)
    if not rows:
        raise no_job(job_id)
    return Job.from_row(rows[0])


async def foreign_holders(
    database: Database, jobs: Iterable[NewJob[Any]], holders: Iterable[UUID], connection: object = None
) -> dict[UUID, str]:
    """The tasks of the jobs that hold a key which one of these jobs has requested across tasks."""
    across = [
        holder
        for job, holder in zip(jobs, holders, strict=True)
        if job.id != holder and job.options.unique is not None and job.options.unique.across_tasks
    ]
    if not across:
        return {}
    rows = await database.run("list_tasks_of", across, connection=connection)
    return {uuid_of(row[0]): row[1] for row in rows}


async def list_attempts(database: Database, job_id: UUID) -> list[Mapping[str, Any]]:
    """The job's attempts that did not simply succeed, in their order: the columns of the table `attempt`."""
    return [dict(row) for row in await database.run("list_attempts", job_id)]


async def list_logs(database: Database, job_id: UUID | str) -> list[LogLine]:
    """The lines that the job's attempts have logged, in their order. Raises `JobNotFound` for an invalid id."""
    return [line for row in await database.run("list_logs", parse_id(job_id)) for line in LogLine.of_row(row)]


def no_job(job_id: UUID | str) -> JobNotFound:
    """The error that no job has this id: the same for a missing and for an invisible job."""
    return JobNotFound(f"There is no job {job_id}: it was never committed, or retention has removed it.")


def parse_id(text: UUID | str) -> UUID:
    """The id, from its text. Raises `JobNotFound` for a value that cannot be a job's id."""
    if isinstance(text, UUID):
        return text
    try:
        return UUID(text)
    except (ValueError, AttributeError, TypeError) as error:
        raise JobNotFound(f"There is no job {quoted(text)}: a job's id is a UUID.") from error
