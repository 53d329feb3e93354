"""`/v1/events`: changes as server-sent events."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from uuid import UUID

import msgspec
from aiohttp import hdrs, web

from rowlock.api.http.browsers import is_gone
from rowlock.api.http.problems import JOB_NOT_FOUND, TOO_MANY_STREAMS, Refused
from rowlock.api.http.streams import MOST_OF_ONE, MOST_STREAMS, STREAMS, Stream
from rowlock.api.routing.routes import Call, Routes
from rowlock.queue.jobs.fields import said

routes = Routes("events")

EVENT_STREAM: Final = "text/event-stream"
CHECK_SECONDS: Final = 5.0
"""Seconds between checks that the client still has its access."""
COMMENT_SECONDS: Final = 15.0
WRITE_SECONDS: Final = 10.0
"""A client that takes longer to read what was sent is disconnected."""


class EventsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """`job`: a job to watch as well."""

    job: Annotated[UUID, said("a job to watch as well")] | None = None


@routes.get(
    "/v1/events",
    scope="read",
    by_queue=True,
    answers={200: str},
    media=EVENT_STREAM,
    problems=(JOB_NOT_FOUND, TOO_MANY_STREAMS),
)
async def events(call: Call, query: EventsQuery) -> web.StreamResponse:
    """Stream changes: the events `overview` and `operation`, and `job` if the query names one."""
    streams, queues = call.request.app[STREAMS], call.access.queues
    if query.job is not None:
        await call.visible(query.job)
    if streams.room_for(call.access.by) <= 0:
        detail = (
            f"Open streams must be at most {MOST_STREAMS}, and {MOST_OF_ONE} of one key. Close some, or poll "
            "/v1/overview."
        )
        raise Refused(TOO_MANY_STREAMS, detail)
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: EVENT_STREAM, "X-Accel-Buffering": "no"})
    stream = Stream(queues, query.job, by=call.access.by, is_gone=lambda: is_gone(call.request))
    if call.request.method == hdrs.METH_HEAD:
        await response.prepare(call.request)
        return response
    streams.add(stream)
    try:
        await response.prepare(call.request)
        await response.write(b"retry: 3000\n\n")
        await _send(call, response, stream)
    except (TimeoutError, ConnectionError):
        stream.is_behind = True
    finally:
        await streams.remove(stream)
    if stream.is_behind and call.request.transport is not None:
        call.request.transport.abort()  # else closing would wait until it reads the rest
    return response


async def _send(call: Call, response: web.StreamResponse, stream: Stream) -> None:
    """Send until the stream is over, or the client loses its access."""
    loop = asyncio.get_running_loop()
    check_at, comment_at = loop.time() + CHECK_SECONDS, loop.time() + COMMENT_SECONDS
    while not stream.is_over:
        message = await stream.next(max(min(check_at, comment_at) - loop.time(), 0.0))
        if loop.time() >= check_at:
            if not await call.is_still_allowed("read"):
                return
            check_at = loop.time() + CHECK_SECONDS
        if not message and loop.time() >= comment_at:
            message = b": nothing new\n\n"
        if message:
            comment_at = loop.time() + COMMENT_SECONDS
            async with asyncio.timeout(WRITE_SECONDS):
                await response.write(message)
