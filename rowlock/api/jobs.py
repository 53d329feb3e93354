"""`/v1/jobs`: enqueue jobs, list them, look at one."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial

import msgspec
from aiohttp import hdrs, web

from rowlock.api.backend import BACKEND, Backend
from rowlock.api.exchange import answer, read_body, read_query
from rowlock.api.idempotency import KEY_HEADER, REPEATED_HEADER, fingerprint, read_key
from rowlock.api.pages import FILTERS, PAGE, filter_of, page_of
from rowlock.api.problems import DATABASE_UNAVAILABLE, INVALID_REQUEST, KEY_REUSED, Refused
from rowlock.api.wire import (
    Attempt,
    EnqueuedJob,
    JobDetail,
    JobLogs,
    JobPage,
    JobRequest,
    JobSummary,
    UniqueRequest,
    raw_result,
)
from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connections import CONNECTION_LOST
from rowlock.queue.idempotency import Answer, answer_once

routes = web.RouteTableDef()


@routes.post("/v1/jobs")
async def enqueue(request: web.Request) -> web.Response:
    """Enqueue a job: 201, or 200 if another one holds its unique key. With an Idempotency-Key, once."""
    body = await read_body(request, JobRequest)
    backend, key = request.app[BACKEND], read_key(request)
    if key is None:
        given: Answer | None = await _enqueue(backend, body, None)
    else:
        given = await answer_once(
            backend.client, key, fingerprint(await request.read()), partial(_enqueue, backend, body)
        )
    if given is None:
        raise Refused(KEY_REUSED, f"This {KEY_HEADER} came with another body before: use a new one for a new request.")
    headers: dict[str, str] = {hdrs.LOCATION: str(request.rel_url.with_query(None) / str(given.job_id))}
    if given.is_repeated:
        headers[REPEATED_HEADER] = "true"
    return web.Response(text=given.body, status=given.status, headers=headers, content_type="application/json")


async def _enqueue(backend: Backend, body: JobRequest, connection: object) -> Answer:
    handle = await backend.enqueue(
        body.task,
        body.args,
        queue=body.queue,
        priority=body.priority,
        delay=body.delay,
        run_at=_instant("run_at", body.run_at),
        expires=_limit_in_time("expires", body.expires),
        deadline=_limit_in_time("deadline", body.deadline),
        max_attempts=body.max_attempts,
        timeout=body.timeout,
        unique=body.unique.unique() if isinstance(body.unique, UniqueRequest) else body.unique,
        args_version=1 if body.args_version is None else body.args_version,
        connection=connection,
    )
    try:
        stored = await backend.client.get(handle.id, connection)
    except (DatabaseUnavailable, *CONNECTION_LOST) as error:
        if connection is not None:
            raise  # it was rolled back with all the rest
        raise Refused(
            DATABASE_UNAVAILABLE,
            "The job is stored, but the connection to the database was lost before it could be shown: look for it by "
            "its id, and do not enqueue it again.",
            job_id=handle.id,
        ) from error
    job = EnqueuedJob.of(stored, is_duplicate=handle.is_duplicate)
    document = msgspec.json.encode(job).decode()
    return Answer(status=200 if handle.is_duplicate else 201, body=document, job_id=job.id)


@routes.get("/v1/jobs")
async def list_jobs(request: web.Request) -> web.Response:
    """A page of jobs, newest first."""
    query = read_query(request, "state", *FILTERS, *PAGE)
    page = page_of(query)
    jobs = await request.app[BACKEND].client.list_jobs(filter_of(query), before=page.before, limit=page.limit)
    return answer(JobPage(jobs=[JobSummary.of(job) for job in jobs], next=page.following(request, jobs)))


@routes.get("/v1/jobs/{id}")
async def show(request: web.Request) -> web.Response:
    """One job with its arguments, its result and its attempts."""
    client = request.app[BACKEND].client
    job = await client.get(request.match_info["id"])
    attempts = [Attempt.of(row) for row in await client.attempts(job.id)]
    return answer(
        JobDetail.of(job, args=job.args, progress=job.last_progress, result=raw_result(job), attempts=attempts)
    )


@routes.get("/v1/jobs/{id}/logs")
async def logs(request: web.Request) -> web.Response:
    """The lines that the job's ended attempts have logged."""
    client = request.app[BACKEND].client
    job = await client.get(request.match_info["id"])
    return answer(JobLogs(id=job.id, lines=await client.logs(job.id)))


def _limit_in_time(field: str, given: float | datetime | None) -> float | datetime | None:
    return _instant(field, given) if isinstance(given, datetime) else given


def _instant(field: str, given: datetime | None) -> datetime | None:
    """The time in UTC. Python has none outside the years 1 to 9999, which an offset can lead to."""
    try:
        return None if given is None else given.astimezone(UTC)
    except OverflowError:
        raise Refused(INVALID_REQUEST, f"{field} is outside the years 1 to 9999 in UTC.", field=field) from None
