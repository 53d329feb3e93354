"""The aiohttp application: routes, middlewares and shutdown."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable
from typing import Final
from uuid import UUID

from aiohttp import web

from rowlock.api import dashboard
from rowlock.api.access.access import AUTHENTICATE, Authenticate
from rowlock.api.access.authentication import keys_are_demanded
from rowlock.api.access.failures import FAILURES, Failures
from rowlock.api.access.let_in import LET_IN, LetIn
from rowlock.api.app_keys import CLOSING, ROWLOCK
from rowlock.api.http.browsers import BEHIND_PROXY, refuse_cross_site
from rowlock.api.http.exchange import BODY_LIMIT, identify, refuse_encoded, set_headers
from rowlock.api.http.observing import REQUESTS, observe
from rowlock.api.http.problems import answer_problems, answer_unrouted
from rowlock.api.http.readings import READINGS, Readings
from rowlock.api.http.streams import STREAMS, Streams
from rowlock.api.resources import (
    acts,
    events,
    health,
    jobs,
    metrics,
    operations,
    overview,
    queues,
    results,
    retention,
    schedules,
    session,
    tasks,
    workers,
)
from rowlock.api.resources.metrics import ERRORS, PARTS
from rowlock.api.routing import documents
from rowlock.api.routing.openapi import DOCUMENT, describe
from rowlock.api.routing.routes import Endpoint
from rowlock.app import Rowlock
from rowlock.metrics.requests import Requests
from rowlock.queue.read.operations import Operation, list_operations
from rowlock.queue.read.reader import get_job
from rowlock.wire.jobs import JobDetail

_MODULES: Final = (
    health,
    metrics,
    session,
    overview,
    events,
    acts,
    jobs,
    results,
    queues,
    workers,
    schedules,
    tasks,
    retention,
    operations,
    documents,
)

ENDPOINTS: Final[tuple[Endpoint, ...]] = tuple(endpoint for module in _MODULES for endpoint in module.routes.endpoints)
"""All endpoints, acts before reads: the path `bulk` must not match as a job's id."""

_document: Final[Callable[[], bytes]] = functools.cache(lambda: describe(ENDPOINTS))


def create_app(
    rowlock: Rowlock, *, authenticate: Authenticate = keys_are_demanded, behind_proxy: bool = False
) -> web.Application:
    """Make the HTTP API of a `Rowlock`: an aiohttp application to run by itself, or to add below another one.

    By default every request must show an API key (`rowlock keys create`), or the cookie of a session begun with one.
    `authenticate` replaces this: `nobody_is_asked` allows everybody everything, for an API that only your own programs
    reach; or pass an async function that receives the request and returns an `Access`, or None to refuse it.
    `behind_proxy`: all requests come through a proxy that terminates TLS, and its `X-Forwarded-For` is trusted.
    Stopping the application ends its long polls; the caller closes the `Rowlock`.

    >>> web.run_app(create_app(Rowlock()))
    >>> site.add_subapp("/queue", create_app(app, authenticate=nobody_is_asked))
    """
    app = web.Application(
        middlewares=(identify, observe, refuse_encoded, answer_problems, refuse_cross_site), client_max_size=BODY_LIMIT
    )
    app[ROWLOCK] = rowlock
    app[CLOSING] = asyncio.Event()
    app[AUTHENTICATE] = authenticate
    app[BEHIND_PROXY] = behind_proxy
    app[FAILURES] = Failures()
    app[LET_IN] = LetIn()
    app[READINGS] = Readings()
    app[REQUESTS] = Requests()
    app[ERRORS] = Counter(dict.fromkeys(PARTS, 0))
    app[STREAMS] = _streams(app)
    app[DOCUMENT] = _document
    for module in _MODULES:
        module.routes.register(app)
    dashboard.register(app)
    app.on_response_prepare.extend((answer_unrouted, set_headers))
    app.on_shutdown.append(_end_waiting)
    app.on_cleanup.append(app[READINGS].close)
    return app


async def _end_waiting(app: web.Application) -> None:  # aiohttp awaits it
    app[CLOSING].set()
    await app[STREAMS].close()


def _streams(app: web.Application) -> Streams:
    """Make the event streams, with the functions that read their events."""
    rowlock = app[ROWLOCK]

    async def operations(limit: int) -> list[Operation]:
        return await list_operations(rowlock.database, limit=limit)

    async def detail(job: UUID) -> JobDetail:
        return await jobs.detail(rowlock.database, await get_job(rowlock.database, job))

    return Streams(
        overview=lambda within: overview.overview_of(app, rowlock.database, within),
        operations=operations,
        detail=detail,
    )
