"""`/openapi.json`: the description of the API."""

from __future__ import annotations

from typing import Any

from aiohttp import hdrs, web

from rowlock.api.http.exchange import answer_if_new
from rowlock.api.routing.openapi import DOCUMENT
from rowlock.api.routing.routes import Call, Routes

routes = Routes("documents")


@routes.get(
    "/openapi.json",
    scope=None,
    answers={200: dict[str, Any], 304: None},
    headers={200: (hdrs.ETAG,), 304: (hdrs.ETAG,)},
)
async def openapi(call: Call) -> web.Response:
    """This document. With `If-None-Match`: 304 while it is the same."""
    return answer_if_new(call.request, call.request.app[DOCUMENT](), headers={hdrs.CACHE_CONTROL: "no-cache"})
