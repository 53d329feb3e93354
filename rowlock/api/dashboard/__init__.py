"""The dashboard: a page at `/`, whose files use only the HTTP API; and the page at `/docs`."""

from __future__ import annotations

import functools
import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import ETag, hdrs, web

_ONLY_OURS: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
)
POLICY: Final = f"{_ONLY_OURS}img-src 'self'; require-trusted-types-for 'script'; trusted-types 'none'"
"""The rights of the page: it runs only scripts from this server, and no inline ones."""
_POLICIES: Final = {"docs.html": f"{_ONLY_OURS}img-src 'self' data:"}
"""Swagger UI's style sheet contains its icons, and its script builds elements from the documents' Markdown."""

_ASSETS: Final = Path(__file__).parent / "assets"
_TYPES: Final = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file and its headers."""

    body: bytes
    media: str
    tag: str


def register(app: web.Application) -> None:
    """Add the dashboard's routes: open to everybody, because its files contain no data."""
    app.router.add_get("/", _index)
    app.router.add_get("", _to_index)  # only below another application: elsewhere this is the path before
    app.router.add_get("/docs", _docs)
    app.router.add_get("/assets/{file:.+}", _asset)


async def _to_index(request: web.Request) -> web.StreamResponse:
    raise web.HTTPPermanentRedirect(request.rel_url.path.rpartition("/")[2] + "/")


async def _index(request: web.Request) -> web.StreamResponse:
    return _served(request, "index.html")


async def _docs(request: web.Request) -> web.StreamResponse:
    return _served(request, "docs.html")


async def _asset(request: web.Request) -> web.StreamResponse:
    name = request.match_info["file"]
    if name not in _files():
        raise web.HTTPNotFound
    return _served(request, name)


def _served(request: web.Request, name: str) -> web.Response:
    """Return the file, or 304 if it is unchanged: browsers ask each time, so a new release is a new dashboard."""
    file = _files()[name]
    headers = {
        hdrs.CACHE_CONTROL: "no-cache",
        "Content-Security-Policy": _POLICIES.get(name, POLICY),
        "Cross-Origin-Opener-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
        hdrs.VARY: hdrs.ACCEPT_ENCODING,
    }
    if any(tag.value == file.tag for tag in request.if_none_match or ()):
        response = web.Response(status=304, headers=headers)
    elif "gzip" in request.headers.get(hdrs.ACCEPT_ENCODING, "").lower():
        response = web.Response(body=_packed(name), headers=headers | {hdrs.CONTENT_ENCODING: "gzip"})
        response.content_type, response.charset = file.media, "utf-8"
    else:
        response = web.Response(body=file.body, headers=headers)
        response.content_type, response.charset = file.media, "utf-8"
    response.etag = ETag(file.tag)
    return response


@functools.cache
def _packed(name: str) -> bytes:
    """The file, compressed once: any client may request it, and the largest takes 50 ms."""
    return gzip.compress(_files()[name].body, mtime=0)


@functools.cache
def _files() -> Mapping[str, _File]:
    """All files, by their request names."""
    return {
        path.relative_to(_ASSETS).as_posix(): _File(body, _TYPES[path.suffix], hashlib.sha256(body).hexdigest()[:32])
        for path in _ASSETS.rglob("*")
        if path.suffix in _TYPES
        for body in [path.read_bytes()]
    }
