"""Log and count every request."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from rowlock import logs
from rowlock.metrics.requests import Requests

log = logs.get_logger("rowlock.api")

UNMATCHED: Final = "unmatched"
GONE: Final = 499
"""nginx's status for a client that disconnected before the answer."""

_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})


REQUESTS: web.AppKey[Requests] = web.AppKey("requests")


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request, and log its answer: the route, never the query, body or key."""
    began = time.monotonic()
    status = 500
    try:
        response = await handler(request)
        status = response.status
    except web.HTTPException as error:
        status = error.status
        raise
    except asyncio.CancelledError:
        status = GONE
        raise
    else:
        return response
    finally:
        took = time.monotonic() - began
        route = route_of(request)
        request.app[REQUESTS].note(request.method, route, status, took)
        tell = log.debug if route in _QUIET and status < 400 else log.info
        tell("request_answered", method=request.method, route=route, status=status, seconds=round(took, 4))


def route_of(request: web.Request) -> str:
    """The request's route, with the names of parameters instead of their values."""
    resource = request.match_info.route.resource
    return UNMATCHED if resource is None else resource.canonical
