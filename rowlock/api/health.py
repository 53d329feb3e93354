"""`/healthz` and `/readyz`: whether the process lives, and whether it can do its work."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from rowlock.api.backend import BACKEND
from rowlock.api.exchange import answer
from rowlock.api.problems import DATABASE_UNAVAILABLE, Refused

READY_WITHIN: Final = 2.0

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request: web.Request) -> web.Response:  # noqa: ARG001  # a handler of aiohttp
    """The process answers. Asks nobody else, so that a database that is down does not get processes restarted."""
    return answer({"status": "ok"})


@routes.get("/readyz")
async def readyz(request: web.Request) -> web.Response:
    """The database answers, and its schema is the one that this code works on."""
    try:
        async with asyncio.timeout(READY_WITHIN):
            await request.app[BACKEND].client.check_schema()
    except TimeoutError as error:
        raise Refused(DATABASE_UNAVAILABLE, f"The database did not answer within {READY_WITHIN:g} s.") from error
    return answer({"status": "ok"})
