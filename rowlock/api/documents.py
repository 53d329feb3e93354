"""`/openapi.json`: what the API takes and answers."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

from aiohttp import ETag, hdrs, web

from rowlock.api.openapi import DOCUMENT
from rowlock.api.routes import JSON, Call, Routes

routes = Routes("documents")


@routes.get(
    "/openapi.json",
    scope=None,
    answers={200: dict[str, Any], 304: None},
    headers={200: (hdrs.ETAG,), 304: (hdrs.ETAG,)},
)
async def openapi(call: Call) -> web.Response:
    """This document. With `If-None-Match`: 304 while it is the same."""
    body = call.request.app[DOCUMENT]()
    tag, headers = _tag(body), {hdrs.CACHE_CONTROL: "no-cache"}
    if any(known.value in {tag, "*"} for known in call.request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    else:
        response = web.Response(body=body, content_type=JSON, headers=headers)
    response.etag = ETag(tag)
    return response


@functools.cache
def _tag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]
