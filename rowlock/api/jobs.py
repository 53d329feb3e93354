"""`/v1/jobs`: enqueue jobs, list them, look at one."""

from __future__ import annotations

from datetime import UTC, datetime

from aiohttp import hdrs, web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer, read_body, read_query
from rowlock.api.pages import FILTERS, PAGE, filter_of, page_of
from rowlock.api.problems import INVALID_REQUEST, Refused
from rowlock.api.wire import Attempt, EnqueuedJob, JobDetail, JobLogs, JobPage, JobRequest, JobSummary, raw_result

routes = web.RouteTableDef()


@routes.post("/v1/jobs")
async def enqueue(request: web.Request) -> web.Response:
    """Enqueue a job: 201, or 200 if another one holds its unique key."""
    body = await read_body(request, JobRequest)
    handle = await request.app[BACKEND].enqueue(
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
        unique=body.unique,
    )
    job = EnqueuedJob.of(await handle.get(), is_duplicate=handle.is_duplicate)
    location = request.rel_url.with_query(None) / str(job.id)
    return answer(job, status=200 if handle.is_duplicate else 201, headers={hdrs.LOCATION: str(location)})


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
