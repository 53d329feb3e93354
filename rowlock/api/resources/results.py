"""`/v1/jobs/{id}/result`: a job's result, optionally after a wait."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from aiohttp import hdrs, web

from rowlock.api.app_keys import CLOSING
from rowlock.api.http.browsers import is_gone
from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import JOB_NOT_FOUND, UNAUTHENTICATED, Refused
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.read.handle import wait_until_finished
from rowlock.queue.read.reader import no_job
from rowlock.wire.jobs import Succeeded, Unfinished, Unsuccessful

LONGEST_WAIT: Final = 60
CHECK_SECONDS: Final = 1.0
"""After a longer wait, in seconds, the client's access is checked again."""

routes = Routes("jobs")


class WaitQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The seconds to wait for the job's end."""

    wait: Annotated[float, msgspec.Meta(ge=0, le=LONGEST_WAIT, description="seconds")] = 0


@routes.get(
    "/v1/jobs/{id}/result",
    scope="read",
    by_queue=True,
    answers={200: Succeeded | Unsuccessful, 202: Unfinished},
    headers={202: (hdrs.RETRY_AFTER,)},
    problems=(JOB_NOT_FOUND,),
)
async def result(call: Call, query: WaitQuery) -> web.Response:
    """Return the outcome of a finished job: 200; 202 if it has not finished after `wait` seconds.

    The wait also ends when the client disconnects, or the server stops.
    """
    request, closing = call.request, call.request.app[CLOSING]

    def is_wanted() -> bool:
        return not closing.is_set() and not is_gone(request)

    clock = asyncio.get_running_loop().time
    began = clock()
    job = await wait_until_finished(call.rowlock.database, await call.job_id(), query.wait, is_wanted=is_wanted)
    if clock() - began > CHECK_SECONDS and not await call.is_allowed_again("read"):
        raise Refused(UNAUTHENTICATED, "The key or session of this request ended during the wait.")
    if not call.access.sees(job.queue):  # it was moved meanwhile
        raise no_job(job.id)
    if not job.is_finished:
        return answer(Unfinished(id=job.id, state=job.state), status=202, headers={hdrs.RETRY_AFTER: "1"})
    if job.state == "succeeded":
        return answer(Succeeded.of(job))
    return answer(Unsuccessful.of(job))
