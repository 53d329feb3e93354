"""Acts on jobs under `/v1/jobs/{id}`, the same in bulk, and the dead letters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
from aiohttp import hdrs, web

from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import (
    FORBIDDEN,
    INVALID_ARGUMENTS,
    INVALID_KEY,
    JOB_NOT_FOUND,
    KEY_HELD,
    KEY_REUSED,
    WRONG_STATE,
    Refused,
)
from rowlock.api.http.readings import READINGS
from rowlock.api.routing.idempotency import REPEATED_HEADER, answer_again, once
from rowlock.api.routing.pages import FilterPageQuery, FilterQuery, LimitQuery, page_of
from rowlock.api.routing.routes import Call, Routes
from rowlock.errors import KeyHeld, UnknownTask
from rowlock.queue.enqueue.idempotency import Answer
from rowlock.queue.jobs.filter import Sight
from rowlock.queue.operate.bulk import BulkResult
from rowlock.queue.operate.jobs import Jobs
from rowlock.queue.read.dead_letters import group_dead_letters, list_dead_letters
from rowlock.queue.read.unclaimed import list_unclaimed
from rowlock.wire.jobs import (
    BulkCancelRequest,
    BulkRequest,
    BulkRescheduleRequest,
    Cancelled,
    CancelRequest,
    JobPage,
    JobSummary,
    RescheduleRequest,
    RetryRequest,
    RunAgainRequest,
)
from rowlock.wire.queues import DeadLetterGroups, UnclaimedKind, UnclaimedKinds
from rowlock.words import quoted

if TYPE_CHECKING:
    from uuid import UUID

    from rowlock.queue.enqueue.idempotency import Connection

routes = Routes("jobs")


def _jobs(call: Call) -> Jobs:
    """Return the acts of this request on one job."""
    return call.rowlock.jobs.through(call.origin, sight=Sight(queues=call.access.queues))


async def _seen_jobs(call: Call) -> Jobs:
    """Return the bulk acts of this request, limited to the jobs that it sees."""
    return call.rowlock.jobs.through(call.origin, sight=await call.sight())


@routes.post("/v1/jobs/bulk/cancel", scope="operate", by_queue=True, answers={200: BulkResult})
async def cancel_many(call: Call, body: BulkCancelRequest) -> web.Response:
    """Cancel all live jobs that match a filter."""
    return answer(
        await (await _seen_jobs(call)).cancel_many(
            body.filter,
            reason=body.reason,
            dry_run=body.dry_run,
            everything=body.everything,
        )
    )


@routes.post("/v1/jobs/bulk/reschedule", scope="operate", by_queue=True, answers={200: BulkResult})
async def reschedule_many(call: Call, body: BulkRescheduleRequest) -> web.Response:
    """Change the due time, priority or queue of all waiting jobs that match a filter."""
    if body.queue is not None and call.access.queues is not None:
        detail = "queue must be omitted with a key limited to queues. Move the jobs one by one."
        raise Refused(FORBIDDEN, detail, field="queue")
    return answer(
        await (await _seen_jobs(call)).reschedule_many(
            body.filter,
            delay=body.delay,
            run_at=body.run_at,
            priority=body.priority,
            queue=body.queue,
            dry_run=body.dry_run,
            everything=body.everything,
        )
    )


@routes.post("/v1/jobs/bulk/retry", scope="operate", by_queue=True, answers={200: BulkResult})
async def retry_many(call: Call, body: BulkRequest) -> web.Response:
    """Retry all finished jobs that match a filter."""
    return answer(
        await (await _seen_jobs(call)).retry_many(body.filter, dry_run=body.dry_run, everything=body.everything)
    )


@routes.post("/v1/jobs/bulk/discard", scope="operate", by_queue=True, answers={200: BulkResult})
async def discard_many(call: Call, body: BulkRequest) -> web.Response:
    """Discard all dead letters that match a filter."""
    return answer(
        await (await _seen_jobs(call)).discard_many(body.filter, dry_run=body.dry_run, everything=body.everything)
    )


@routes.post(
    "/v1/jobs/{id}/cancel",
    scope="operate",
    by_queue=True,
    answers={200: Cancelled, 202: Cancelled},
    problems=(JOB_NOT_FOUND, WRONG_STATE),
)
async def cancel(call: Call, body: CancelRequest) -> web.Response:
    """Cancel a job: 200 if it never starts, 202 if it runs and was notified."""
    job = await call.job_id()
    done = await _jobs(call).cancel(job, reason=body.reason)
    return answer(Cancelled(id=job, answer=done), status=200 if done == "cancelled" else 202)


@routes.post(
    "/v1/jobs/{id}/reschedule",
    scope="operate",
    by_queue=True,
    answers={200: JobSummary},
    problems=(JOB_NOT_FOUND, WRONG_STATE),
)
async def reschedule(call: Call, body: RescheduleRequest) -> web.Response:
    """Change the due time, priority or queue of a waiting job."""
    job = await call.job_id()
    if body.queue is not None:
        await _require_queues(call, job, body.queue)
    done = await _jobs(call).reschedule(job, **msgspec.structs.asdict(body))
    return answer(JobSummary.of(done))


async def _require_queues(call: Call, job_id: UUID, queue: str) -> None:
    """Check that this access, if it is limited to queues, sees the job's new queue and the queue of its task.

    Otherwise a key for one queue could make the workers of another queue run a task. Raises `Refused`.
    """
    if call.access.queues is None:
        return
    if not call.access.sees(queue):
        raise Refused(FORBIDDEN, f"queue must be one of the key's queues; got {quoted(queue)}.", field="queue")
    if (task := await _foreign_task(call, job_id)) is not None:
        raise Refused(FORBIDDEN, f"The key must include the queue of the task {quoted(task)}.", field="queue")


async def _require_task(call: Call, job_id: UUID) -> UUID:
    """Check that this access, if it is limited to queues, sees the queue of the job's task, as for an enqueue.

    Otherwise it could run a task of another queue, if a job of it was moved to one of its own queues. Raises
    `Refused`.
    """
    if call.access.queues is not None and (task := await _foreign_task(call, job_id)) is not None:
        raise Refused(FORBIDDEN, f"The key must include the queue of the task {quoted(task)}.")
    return job_id


async def _foreign_task(call: Call, job_id: UUID) -> str | None:
    """Return the job's task, if it is unknown, or of a queue that this access does not see."""
    task = (await call.visible(job_id)).task
    try:
        return None if call.access.sees((await call.rowlock.by_name.usual_options(task, None)).queue) else task
    except UnknownTask:
        return task


@routes.delete(
    "/v1/jobs/{id}", scope="admin", by_queue=True, answers={204: None}, problems=(JOB_NOT_FOUND, WRONG_STATE)
)
async def delete_job(call: Call) -> web.Response:
    """Delete a finished job for good: 204."""
    await _jobs(call).delete(await call.job_id())
    return web.Response(status=204)


@routes.post(
    "/v1/jobs/{id}/retry",
    scope="operate",
    by_queue=True,
    answers={200: JobSummary},
    problems=(JOB_NOT_FOUND, WRONG_STATE, KEY_HELD, INVALID_ARGUMENTS),
)
async def retry(call: Call, body: RetryRequest) -> web.Response:
    """Retry a finished job."""
    try:
        wanted = await _require_task(call, await call.job_id())
        job = await _jobs(call).retry(wanted, args=body.args)
    except KeyHeld as error:
        if call.access.queues is None:
            raise
        raise Refused(KEY_HELD, "Another job holds its unique key.") from error  # perhaps one of another queue
    return answer(JobSummary.of(job))


@routes.post(
    "/v1/jobs/{id}/run-again",
    scope="operate",
    by_queue=True,
    answers={201: JobSummary},
    headers={201: (hdrs.LOCATION, REPEATED_HEADER)},
    problems=(JOB_NOT_FOUND, WRONG_STATE, INVALID_ARGUMENTS, INVALID_KEY, KEY_REUSED),
)
async def run_again(call: Call, body: RunAgainRequest) -> web.Response:
    """Enqueue a copy of a finished job: 201. With an Idempotency-Key, once."""
    old = await _require_task(call, await call.job_id())

    async def run(connection: Connection | None) -> Answer:
        job = await _jobs(call).run_again(old, args=body.args, connection=connection)
        return Answer(status=201, body=msgspec.json.encode(JobSummary.of(job)).decode(), job_id=job.id)

    given = await once(call, run)
    location = call.request.rel_url.with_query(None).parent.parent / str(given.job_id)
    return answer_again(given, {hdrs.LOCATION: str(location)})


@routes.post(
    "/v1/jobs/{id}/discard",
    scope="operate",
    by_queue=True,
    answers={200: JobSummary},
    problems=(JOB_NOT_FOUND, WRONG_STATE),
)
async def discard(call: Call) -> web.Response:
    """Discard a dead letter."""
    job = await _jobs(call).discard(await call.job_id())
    return answer(JobSummary.of(job))


@routes.get("/v1/unclaimed", scope="read", answers={200: UnclaimedKinds})
async def unclaimed(call: Call, query: LimitQuery) -> web.Response:
    """Count the due jobs that no live worker can claim, by kind, with the reason."""
    read = partial(list_unclaimed, call.rowlock.database, limit=query.limit)
    kinds = await call.request.app[READINGS].get(("unclaimed", query.limit), read)
    return answer(UnclaimedKinds(kinds=[UnclaimedKind.of(kind) for kind in kinds]))


@routes.get("/v1/dead-letters", scope="read", by_queue=True, answers={200: JobPage})
async def dead_letters(call: Call, query: FilterPageQuery) -> web.Response:
    """List dead letters: jobs that failed and were not discarded, newest first."""
    jobs = await list_dead_letters(
        call.rowlock.database,
        query.filter(),
        before=query.before,
        limit=query.limit,
        sight=await call.sight(),
        has_documents=False,
    )
    return answer(page_of(call, jobs))


@routes.get("/v1/dead-letters/groups", scope="read", by_queue=True, answers={200: DeadLetterGroups})
async def dead_letter_groups(call: Call, query: FilterQuery) -> web.Response:
    """Count the dead letters by task and error, the most frequent first."""
    sight = await call.sight()
    read = partial(group_dead_letters, call.rowlock.database, query.filter(), limit=query.limit, sight=sight)
    groups = await call.request.app[READINGS].get(("groups", query, call.access.queues), read)
    return answer(DeadLetterGroups(groups=groups, searched_until=groups.searched_until))
