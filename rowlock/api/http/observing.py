"""What is known of the requests afterwards: a line in the log for each, and counts for the metrics."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from rowlock import logs

log = logs.get_logger("rowlock.api")

BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""Where the buckets of the histogram end, in seconds; one more holds what takes longer."""
UNMATCHED: Final = "unmatched"
GONE: Final = 499
"""The status that nginx has for a client that did not wait for its answer."""

_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})


class RequestCounts:
    """The requests to one route by one method."""

    __slots__ = ("durations", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.durations = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Requests:
    """The requests of one process, by method and route: there are no more of these than the application has."""

    bounds = BOUNDS

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], RequestCounts] = {}

    def note(self, method: str, route: str, status: int, took: float) -> None:
        """Count one."""
        method = method if method in hdrs.METH_ALL else "other"
        kind = self.kinds.get((method, route))
        if kind is None:
            kind = self.kinds[method, route] = RequestCounts()
        kind.statuses[f"{status // 100}xx"] += 1
        kind.durations[bisect_left(BOUNDS, took)] += 1
        kind.seconds += took


REQUESTS: web.AppKey[Requests] = web.AppKey("requests")


@web.middleware
async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count the request, and log it when it is answered: its route, never its query, its body or its key."""
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
    """The route that serves the request, with its parameters' names in place of their values."""
    resource = request.match_info.route.resource
    return UNMATCHED if resource is None else resource.canonical
