"""`/v1/jobs`: enqueue, list and show jobs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from rowlock.api.http.exchange import accepted_age, answer, answer_if_new
from rowlock.api.http.problems import (
    DATABASE_UNAVAILABLE,
    DUPLICATE_JOB,
    FORBIDDEN,
    INVALID_ARGUMENTS,
    INVALID_KEY,
    INVALID_REQUEST,
    JOB_NOT_FOUND,
    KEY_REUSED,
    UNKNOWN_TASK,
    Refused,
)
from rowlock.api.http.readings import READINGS
from rowlock.api.resources.holders import Holders
from rowlock.api.routing.idempotency import REPEATED_HEADER, answer_again, once
from rowlock.api.routing.pages import JobsQuery, page_of
from rowlock.api.routing.routes import Call, Routes
from rowlock.errors import DatabaseUnavailable, UnknownTask
from rowlock.queue.connect.database import Database
from rowlock.queue.connect.server_errors import CONNECTION_LOST
from rowlock.queue.enqueue.idempotency import Answer
from rowlock.queue.jobs.checks import TRACE
from rowlock.queue.jobs.job import Job
from rowlock.queue.jobs.new_job import NewJob
from rowlock.queue.jobs.options import JobOptions
from rowlock.queue.read import pages
from rowlock.queue.read.reader import get_job, list_attempts, list_logs
from rowlock.wire.jobs import (
    EnqueuedJob,
    EnqueuedJobs,
    EnqueuedOne,
    JobDetail,
    JobLogs,
    JobPage,
    JobRequest,
    JobsRequest,
    Receipt,
    UniqueRequest,
)
from rowlock.words import quoted

routes = Routes("jobs")

MOST_AT_ONCE: Final = 1000
TRACE_HEADER: Final = "traceparent"


@routes.post(
    "/v1/jobs",
    scope="enqueue",
    by_queue=True,
    answers={201: EnqueuedJob | Receipt, 200: EnqueuedJob | Receipt},
    headers={201: (hdrs.LOCATION, REPEATED_HEADER), 200: (hdrs.LOCATION, REPEATED_HEADER)},
    problems=(INVALID_KEY, KEY_REUSED, DUPLICATE_JOB, UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def enqueue(call: Call, body: JobRequest) -> web.Response:
    """Enqueue a job: 201, or 200 if another one holds its unique key. With an Idempotency-Key, once."""
    holders = Holders(call)
    given = await holders.heed(lambda: once(call, partial(_enqueue, call, body, holders)))
    if given.is_repeated and not call.access.allows("read"):  # the key may have had that scope the first time
        given = replace(given, body=_receipt(given.job_id, is_duplicate=given.status == 200))
    place = call.request.rel_url.with_query(None) / str(given.job_id)
    return answer_again(given, {hdrs.LOCATION: str(place)})


@routes.post(
    "/v1/jobs/many",
    scope="enqueue",
    by_queue=True,
    answers={201: EnqueuedJobs},
    headers={201: (REPEATED_HEADER,)},
    problems=(INVALID_KEY, KEY_REUSED, DUPLICATE_JOB, UNKNOWN_TASK, INVALID_ARGUMENTS),
)
async def enqueue_many(call: Call, body: JobsRequest) -> web.Response:
    """Enqueue up to 1,000 jobs, all or none: 201. With an Idempotency-Key, once."""
    if not 1 <= len(body.jobs) <= MOST_AT_ONCE:
        detail = f"jobs must have 1 to {MOST_AT_ONCE} entries; got {len(body.jobs)}."
        raise Refused(INVALID_REQUEST, detail, field="jobs")
    holders = Holders(call)
    given = await holders.heed(lambda: once(call, partial(_enqueue_many, call, body, holders)))
    if given.is_repeated and not call.access.allows("read"):  # the key may have had that scope the first time
        given = replace(given, body=_without_tasks_of_others(given.body, body))
    return answer_again(given, {})


async def _enqueue_many(call: Call, body: JobsRequest, holders: Holders, connection: object) -> Answer:
    if connection is None:
        return await call.rowlock.database.in_contended_transaction(
            lambda own: _enqueue_many(call, body, holders, own.connection), "a unique key of these jobs"
        )
    jobs = await _jobs_of(call, body.jobs, connection)
    given, held = await call.rowlock.store.enqueue_many(jobs, connection)
    stored = await call.rowlock.by_name.handles(given, held, connection)
    holders.require(stored)
    told = [EnqueuedOne(id=handle.id, task=handle.task, is_duplicate=handle.is_duplicate) for handle in stored]
    document = msgspec.json.encode(EnqueuedJobs(jobs=told)).decode()
    if not call.access.allows("read"):
        document = _without_tasks_of_others(document, body)
    return Answer(status=201, body=document, job_id=told[0].id)


def _without_tasks_of_others(document: str, body: JobsRequest) -> str:
    """Give duplicates the requested task, for a caller without `read`: they may be of another task."""
    enqueued = msgspec.json.decode(document, type=EnqueuedJobs).jobs
    jobs = [msgspec.structs.replace(one, task=asked.task) for one, asked in zip(enqueued, body.jobs, strict=True)]
    return msgspec.json.encode(EnqueuedJobs(jobs=jobs)).decode()


async def _jobs_of(call: Call, bodies: Sequence[JobRequest], connection: object) -> list[NewJob[Any]]:
    """Make the jobs of a request. Raises `Refused` for jobs that this access may not enqueue."""
    usual: dict[str, JobOptions] = {}
    return [await _job_of(call, body, usual, connection) for body in bodies]


async def _job_of(call: Call, body: JobRequest, usual: dict[str, JobOptions], connection: object) -> NewJob[Any]:
    """Make a job. `usual` caches the options of tasks."""
    rules = body.unique if isinstance(body.unique, UniqueRequest) else UniqueRequest()
    if rules.on_duplicate == "replace" and not call.access.allows("operate"):
        detail = 'on_duplicate "replace" needs a key with the scope operate, because it changes an existing job.'
        raise Refused(FORBIDDEN, detail, field="unique")
    try:
        if call.access.queues is not None:
            _require_own(call, body, rules)
        if body.task not in usual:
            usual[body.task] = await _usual_options(call, body.task, connection)
        return _made(call, body, usual[body.task])
    except UnknownTask as error:
        if call.access.allows("read") and call.access.queues is None:
            raise
        detail = (
            f"task must be known to this key; got {quoted(body.task)}. Check the name, or start a worker that has it."
        )
        raise Refused(UNKNOWN_TASK, detail, field="task") from error  # the error names tasks of other queues


def _require_own(call: Call, body: JobRequest, rules: UniqueRequest) -> None:
    """Check that this access, which is limited to queues, sees the job's queue. Raises `Refused`.

    The task's queue is checked too: otherwise a key for one queue could make that queue's workers run any task.
    """
    if body.queue is not None and not call.access.sees(body.queue):
        raise Refused(FORBIDDEN, f"queue must be one of the key's queues; got {quoted(body.queue)}.", field="queue")
    if rules.across_tasks:
        detail = "across_tasks must be omitted with a key limited to queues: it would reveal jobs of other queues."
        raise Refused(FORBIDDEN, detail, field="unique")


async def _usual_options(call: Call, task: str, connection: object) -> JobOptions:
    """Return the options of a task. A task of an unseen queue is refused like an unknown task."""
    usual = await call.rowlock.by_name.usual_options(task, connection)
    if not call.access.sees(usual.queue):
        raise UnknownTask(task)
    return usual


def _made(call: Call, body: JobRequest, usual: JobOptions) -> NewJob[Any]:
    version = 1 if body.args_version is None else body.args_version
    return call.rowlock.by_name.make(
        body.task, body.args, usual, body.options, args_version=version, trace=_trace(call.request)
    )


def _trace(request: web.Request) -> str | None:
    """Return the client's trace context; an unreadable one is ignored, not refused."""
    given = request.headers.get(TRACE_HEADER, "")
    return given if TRACE.fullmatch(given) else None


async def _enqueue(call: Call, body: JobRequest, holders: Holders, connection: object) -> Answer:
    if connection is None and holders.are_limited:
        return await call.rowlock.database.in_contended_transaction(
            lambda own: _enqueue(call, body, holders, own.connection), "the unique key"
        )
    (job,), rowlock = await _jobs_of(call, [body], connection), call.rowlock
    held = await rowlock.store.enqueue(job, connection)
    (handle,) = await rowlock.by_name.handles([job], {} if held == job.id else {job.id: held}, connection)
    holders.require([handle])
    status = 200 if handle.is_duplicate else 201
    if not call.access.allows("read"):
        receipt = _receipt(handle.id, is_duplicate=handle.is_duplicate)
        return Answer(status=status, body=receipt, job_id=handle.id)
    try:
        stored = await get_job(rowlock.database, handle.id, connection)
    except (DatabaseUnavailable, *CONNECTION_LOST) as error:
        if connection is not None:
            raise  # the job was rolled back with the transaction
        raise Refused(
            DATABASE_UNAVAILABLE,
            "The job is stored, but the connection to the database was lost before it could be read. Look it up by its "
            "id, and do not enqueue it again.",
            job_id=handle.id,
        ) from error
    document = msgspec.json.encode(EnqueuedJob.of(stored, is_duplicate=handle.is_duplicate)).decode()
    return Answer(status=status, body=document, job_id=handle.id)


def _receipt(job_id: UUID, *, is_duplicate: bool) -> str:
    return msgspec.json.encode(Receipt(id=job_id, is_duplicate=is_duplicate)).decode()


@routes.get("/v1/jobs", scope="read", by_queue=True, answers={200: JobPage})
async def list_jobs(call: Call, query: JobsQuery) -> web.Response:
    """List jobs, newest first. With `Cache-Control: max-age=5`, the page may be up to 5 s old."""

    async def read() -> JobPage:
        sight = await call.sight()
        jobs = await pages.list_jobs(
            call.rowlock.database, which, before=query.before, limit=query.limit, sight=sight, has_documents=False
        )
        return page_of(call, jobs)

    which, readings = query.filter(), call.request.app[READINGS]
    return answer(await readings.get(("jobs", query, call.access.queues), read, most_age=accepted_age(call.request)))


@routes.get(
    "/v1/jobs/{id}",
    scope="read",
    by_queue=True,
    answers={200: JobDetail, 304: None},
    headers={200: (hdrs.ETAG,), 304: (hdrs.ETAG,)},
    problems=(JOB_NOT_FOUND,),
)
async def show_job(call: Call) -> web.Response:
    """Show one job with its arguments, result and attempts. With `If-None-Match`: 304 while unchanged."""
    return answer_if_new(call.request, msgspec.json.encode(await detail(call.rowlock.database, await call.job())))


async def detail(database: Database, job: Job) -> JobDetail:
    """Read a job's attempts; return the job in full."""
    return JobDetail.with_attempts(job, await list_attempts(database, job.id))


@routes.get("/v1/jobs/{id}/logs", scope="read", by_queue=True, answers={200: JobLogs}, problems=(JOB_NOT_FOUND,))
async def show_logs(call: Call) -> web.Response:
    """List the log lines of the job's ended attempts."""
    job = await call.job()
    lines = [] if job.is_sensitive else await list_logs(call.rowlock.database, job.id)
    return answer(JobLogs(id=job.id, lines=lines))
