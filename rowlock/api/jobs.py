"""`/v1/jobs`: enqueue jobs, list them, look at one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from aiohttp import hdrs, web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer, read_body, read_query
from rowlock.api.problems import INVALID_REQUEST, Refused
from rowlock.api.wire import Attempt, EnqueuedJob, JobDetail, JobPage, JobRequest, JobSummary, raw_result
from rowlock.queue import options
from rowlock.queue.client import MOST_PER_PAGE
from rowlock.queue.lifecycle import SHOWN

DEFAULT_PER_PAGE: Final = 50

routes = web.RouteTableDef()

_NUMBER = re.compile(r"[0-9]{1,9}")
_ID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


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
    query = read_query(request, "state", "queue", "task", "limit", "before")
    state, limit = query.get("state"), _limit(query.get("limit"))
    if state is not None and state not in SHOWN:
        raise Refused(INVALID_REQUEST, f"state {state!r} is not one of {', '.join(SHOWN)}.", field="state")
    jobs = await request.app[BACKEND].client.list_jobs(
        state=state,
        queue=options.queue_name(query["queue"]) if "queue" in query else None,
        task=options.task_name(query["task"]) if "task" in query else None,
        before=_before(query.get("before")),
        limit=limit,
    )
    following = str(request.rel_url.update_query(before=str(jobs[-1].id))) if len(jobs) == limit else None
    return answer(JobPage(jobs=[JobSummary.of(job) for job in jobs], next=following))


@routes.get("/v1/jobs/{id}")
async def show(request: web.Request) -> web.Response:
    """One job with its arguments, its result and its attempts."""
    client = request.app[BACKEND].client
    job = await client.get(request.match_info["id"])
    attempts = [Attempt.of(row) for row in await client.attempts(job.id)]
    return answer(JobDetail.of(job, args=job.args, result=raw_result(job), attempts=attempts))


def _limit_in_time(field: str, given: float | datetime | None) -> float | datetime | None:
    return _instant(field, given) if isinstance(given, datetime) else given


def _instant(field: str, given: datetime | None) -> datetime | None:
    """The time in UTC. Python has none outside the years 1 to 9999, which an offset can lead to."""
    try:
        return None if given is None else given.astimezone(UTC)
    except OverflowError:
        raise Refused(INVALID_REQUEST, f"{field} is outside the years 1 to 9999 in UTC.", field=field) from None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_PER_PAGE
    if not _NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_PER_PAGE:
        detail = f"limit {text!r} is out of range: use a whole number from 1 to {MOST_PER_PAGE}."
        raise Refused(INVALID_REQUEST, detail, field="limit")
    return int(text)


def _before(text: str | None) -> UUID | None:
    if text is not None and not _ID.fullmatch(text):
        detail = f"before {text!r} is no job's id: use the last one of the page before."
        raise Refused(INVALID_REQUEST, detail, field="before")
    return None if text is None else UUID(text)
