"""`/openapi.json`: what the API takes and answers."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from rowlock.api.openapi import DOCUMENT
from rowlock.api.routes import JSON, Call, Routes

routes = Routes("documents")


@routes.get("/openapi.json", scope=None, answers={200: dict[str, Any]})
async def openapi(call: Call) -> web.Response:
    """This document."""
    return web.Response(body=call.request.app[DOCUMENT](), content_type=JSON)
