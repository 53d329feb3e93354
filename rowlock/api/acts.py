"""`/v1/jobs/{id}/cancel`, `retry` and `discard`, the same in bulk, and the dead letters."""

from __future__ import annotations

from aiohttp import web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer, read_body, read_optional_body, read_query
from rowlock.api.operations import origin_of
from rowlock.api.pages import FILTERS, PAGE, filter_of, page_of
from rowlock.api.wire import (
    BulkCancelRequest,
    BulkRequest,
    Cancelled,
    CancelRequest,
    DeadLetterGroups,
    JobPage,
    JobSummary,
    RetryRequest,
    UnclaimedKind,
    UnclaimedKinds,
)
from rowlock.queue.client import parse_id

routes = web.RouteTableDef()


@routes.post("/v1/jobs/bulk/cancel")
async def cancel_many(request: web.Request) -> web.Response:
    """Cancel all live jobs that a filter means."""
    body = await read_body(request, BulkCancelRequest)
    return answer(
        await request.app[BACKEND].operators.cancel_many(
            body.filter,
            reason=body.reason,
            dry_run=body.dry_run,
            everything=body.everything,
            origin=origin_of(request),
        )
    )


@routes.post("/v1/jobs/bulk/retry")
async def retry_many(request: web.Request) -> web.Response:
    """Put all finished jobs back that a filter means."""
    body = await read_body(request, BulkRequest)
    return answer(
        await request.app[BACKEND].operators.retry_many(
            body.filter, dry_run=body.dry_run, everything=body.everything, origin=origin_of(request)
        )
    )


@routes.post("/v1/jobs/bulk/discard")
async def discard_many(request: web.Request) -> web.Response:
    """Put all dead letters aside that a filter means."""
    body = await read_body(request, BulkRequest)
    return answer(
        await request.app[BACKEND].operators.discard_many(
            body.filter, dry_run=body.dry_run, everything=body.everything, origin=origin_of(request)
        )
    )


@routes.post("/v1/jobs/{id}/cancel")
async def cancel(request: web.Request) -> web.Response:
    """Cancel a job: 200 if it never starts, 202 if it runs and was told to stop."""
    body = await read_optional_body(request, CancelRequest)
    job = parse_id(request.match_info["id"])
    done = await request.app[BACKEND].operators.cancel(job, reason=body.reason, origin=origin_of(request))
    return answer(Cancelled(id=job, answer=done), status=200 if done == "cancelled" else 202)


@routes.post("/v1/jobs/{id}/retry")
async def retry(request: web.Request) -> web.Response:
    """Put a finished job back."""
    body = await read_optional_body(request, RetryRequest)
    job = await request.app[BACKEND].operators.retry(
        request.match_info["id"], args=body.args, origin=origin_of(request)
    )
    return answer(JobSummary.of(job))


@routes.post("/v1/jobs/{id}/discard")
async def discard(request: web.Request) -> web.Response:
    """Put a dead letter aside."""
    job = await request.app[BACKEND].operators.discard(request.match_info["id"], origin=origin_of(request))
    return answer(JobSummary.of(job))


@routes.get("/v1/unclaimed")
async def unclaimed(request: web.Request) -> web.Response:
    """The due jobs that no live worker would take, by kind, and why."""
    query = read_query(request, "limit")
    kinds = await request.app[BACKEND].operators.unclaimed(limit=page_of(query).limit)
    return answer(UnclaimedKinds(kinds=[UnclaimedKind.of(kind) for kind in kinds]))


@routes.get("/v1/dead-letters")
async def dead_letters(request: web.Request) -> web.Response:
    """A page of the jobs that have failed and were not discarded, newest first."""
    query = read_query(request, *FILTERS, *PAGE)
    page = page_of(query)
    jobs = await request.app[BACKEND].operators.dead_letters(filter_of(query), before=page.before, limit=page.limit)
    return answer(JobPage(jobs=[JobSummary.of(job) for job in jobs], next=page.following(request, jobs)))


@routes.get("/v1/dead-letters/groups")
async def dead_letter_groups(request: web.Request) -> web.Response:
    """The dead letters by task and error, the most frequent first."""
    query = read_query(request, *FILTERS, "limit")
    groups = await request.app[BACKEND].operators.dead_letter_groups(filter_of(query), limit=page_of(query).limit)
    return answer(DeadLetterGroups(groups=groups))
