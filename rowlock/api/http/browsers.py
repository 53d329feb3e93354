"""Browsers: refuse requests of other sites' pages, and store the session cookie."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from rowlock.api.http.problems import CROSS_SITE, Refused

BEHIND_PROXY: web.AppKey[bool] = web.AppKey("behind_proxy")
"""Whether all requests come through a trusted proxy, which terminates TLS and reports the client's address."""
SESSION_PATH: Final = "/v1/session"

_COOKIE: Final = "rowlock_session"
_READS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})


def bearer(request: web.Request) -> str | None:
    """The key in the header `Authorization`. No other site's page can make a browser send one."""
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def is_secure(request: web.Request) -> bool:
    """Whether the client used TLS, at least up to the proxy."""
    return request.secure or request.app[BEHIND_PROXY]


def address(request: web.Request) -> str:
    """The client's address: the peer of the connection, or of the proxy's. Other sources can be forged."""
    if request.app[BEHIND_PROXY]:
        # Proxies extend the header or, as HAProxy does, add another one: the client may have sent the earlier values.
        last = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
        if last:
            return last
    return request.remote or ""


def is_gone(request: web.Request) -> bool:
    """Whether the request's connection has ended."""
    return request.transport is None or request.transport.is_closing()


def session_cookie(request: web.Request) -> str | None:
    """The value of the session cookie. Over TLS, only a cookie counts that this host itself set over TLS.

    Below another application the cookie has a path of its own, which `__Host-` does not allow.
    """
    names: tuple[str, ...] = (_COOKIE,)
    if is_secure(request):
        is_below = len(request.match_info.apps) > 1
        names = (f"__Host-{_COOKIE}", f"__Secure-{_COOKIE}") if is_below else (f"__Host-{_COOKIE}",)
    return next((request.cookies[name] for name in names if name in request.cookies), None)


def keep_session(request: web.Request, response: web.Response, value: str, expires_at: datetime | None) -> None:
    """Set the cookie for this API only: scripts cannot read it, and other sites' pages cannot make browsers send it."""
    name, path = _place(request)
    response.set_cookie(
        name,
        value,
        path=path,
        expires=None if expires_at is None else f"{expires_at:%a, %d %b %Y %H:%M:%S} GMT",
        secure=is_secure(request),
        httponly=True,
        samesite="Strict",
    )


def forget_session(request: web.Request, response: web.Response) -> None:
    """Delete the cookie."""
    name, path = _place(request)
    response.del_cookie(name, path=path, secure=is_secure(request), httponly=True, samesite="Strict")


@web.middleware
async def refuse_cross_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a browser's request from any page but the API's own, unless it only reads, or shows a key.

    Such a page can send a body without a content type to any address, and the visitor's cookie or address would
    authenticate it.
    """
    if request.method not in _READS and bearer(request) is None and not _is_own(request):
        raise Refused(CROSS_SITE, "The page of another site sent this request: only the dashboard may.")
    return await handler(request)


def _is_own(request: web.Request) -> bool:
    """Whether the browser's page is of this origin. A request without these headers is not a browser's."""
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site == "same-origin"
    if (origin := request.headers.get(hdrs.ORIGIN)) is not None:
        scheme, _, host = origin.partition("://")
        return host.lower() == request.host.lower() and (scheme == "https" or not is_secure(request))
    return session_cookie(request) is None


def _place(request: web.Request) -> tuple[str, str]:
    """The cookie's name and path: those of the requested application, which may be below another one."""
    path = request.rel_url.path.removesuffix(SESSION_PATH) or "/"
    if not is_secure(request):
        return _COOKIE, path
    return (f"__Host-{_COOKIE}" if path == "/" else f"__Secure-{_COOKIE}"), path
