"""`/v1/jobs/{id}/result`: what a job returned, waited for if asked to."""

from __future__ import annotations

import re
from typing import Final

from aiohttp import hdrs, web

from rowlock.api.backend import BACKEND, CLOSING
from rowlock.api.exchange import answer, read_query
from rowlock.api.problems import INVALID_REQUEST, Refused
from rowlock.api.wire import Succeeded, Unfinished, Unsuccessful, raw_result
from rowlock.queue.job import wait_until_finished

LONGEST_WAIT: Final = 60

routes = web.RouteTableDef()

_SECONDS = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")


@routes.get("/v1/jobs/{id}/result")
async def result(request: web.Request) -> web.Response:
    """The outcome of a finished job: 200; 202 if it has not finished after `wait` seconds.

    The waiting also ends when the client has gone, or the server is about to.
    """
    seconds = _wait(read_query(request, "wait").get("wait", "0"))
    closing = request.app[CLOSING]

    def is_wanted() -> bool:
        transport = request.transport
        return not closing.is_set() and transport is not None and not transport.is_closing()

    client = request.app[BACKEND].client
    job = await wait_until_finished(client, request.match_info["id"], seconds, is_wanted=is_wanted)
    if not job.is_finished:
        return answer(Unfinished(id=job.id, state=job.state), status=202, headers={hdrs.RETRY_AFTER: "1"})
    if job.state == "succeeded":
        return answer(Succeeded(id=job.id, state=job.state, result=raw_result(job)))
    return answer(Unsuccessful(id=job.id, state=job.state, error=job.error))


def _wait(text: str) -> float:
    if not _SECONDS.fullmatch(text) or float(text) > LONGEST_WAIT:
        raise Refused(INVALID_REQUEST, f"wait {text!r} is out of range: use 0 to {LONGEST_WAIT} seconds.", field="wait")
    return float(text)
