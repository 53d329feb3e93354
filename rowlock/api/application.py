"""The aiohttp application: its routes, its middlewares and what happens when it stops."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from rowlock.api import acts, health, jobs, operations, results, schedules
from rowlock.api.backend import BACKEND, CLOSING, Backend
from rowlock.api.exchange import BODY_LIMIT, identify, refuse_cross_site, set_headers
from rowlock.api.problems import answer_problems

_ROUTES: Final = (health.routes, acts.routes, jobs.routes, results.routes, operations.routes, schedules.routes)


def create_app(rowlock: Backend) -> web.Application:
    """Make the HTTP API of a `Rowlock`: an aiohttp application to run by itself, or to add below another one.

    It has no authentication: put it behind what has, or where only your own programs reach it. Stopping it ends its
    long polls; the `Rowlock` is the caller's to close.

    >>> web.run_app(create_app(Rowlock()))
    >>> site.add_subapp("/queue", create_app(app))
    """
    app = web.Application(middlewares=(identify, answer_problems, refuse_cross_site), client_max_size=BODY_LIMIT)
    app[BACKEND] = rowlock
    app[CLOSING] = asyncio.Event()
    for routes in _ROUTES:
        app.add_routes(routes)
    app.on_response_prepare.append(set_headers)
    app.on_shutdown.append(_end_waiting)
    return app


async def _end_waiting(app: web.Application) -> None:  # aiohttp awaits it
    app[CLOSING].set()
