"""What only browsers do: they act for whatever page asks them to, and keep the cookie of a session."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler

from rowlock.api.http.problems import CROSS_SITE, Refused

BEHIND_PROXY: web.AppKey[bool] = web.AppKey("behind_proxy")
"""Whether all requests come through a proxy of one's own, which ends TLS and says whom it serves."""
SESSION_PATH: Final = "/v1/session"

_COOKIE: Final = "rowlock_session"
_READS: Final = frozenset({hdrs.METH_GET, hdrs.METH_HEAD, hdrs.METH_OPTIONS})


def bearer(request: web.Request) -> str | None:
    """The key that the request shows in its header `Authorization`. No page can have a browser send one unasked."""
    scheme, _, text = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return text.strip() if scheme.lower() == "bearer" else None


def is_secure(request: web.Request) -> bool:
    """Whether the request came by TLS, at least up to the proxy."""
    return request.secure or request.app[BEHIND_PROXY]


def address(request: web.Request) -> str:
    """Where the request comes from: the peer of the connection, or of the proxy's. Others can say what they like."""
    if request.app[BEHIND_PROXY]:
        # Proxies either add to the header or, as HAProxy does, add one more: the client may have sent those before.
        last = ",".join(request.headers.getall("X-Forwarded-For", [])).rpartition(",")[2].strip()
        if last:
            return last
    return request.remote or ""


def is_gone(request: web.Request) -> bool:
    """Whether the connection has ended on which the request came."""
    return request.transport is None or request.transport.is_closing()


def session_cookie(request: web.Request) -> str | None:
    """What the cookie of a session holds. By TLS only one counts that was set by TLS, by this host itself.

    Below another application it has a path of its own, which `__Host-` does not allow.
    """
    names: tuple[str, ...] = (_COOKIE,)
    if is_secure(request):
        is_below = len(request.match_info.apps) > 1
        names = (f"__Host-{_COOKIE}", f"__Secure-{_COOKIE}") if is_below else (f"__Host-{_COOKIE}",)
    return next((request.cookies[name] for name in names if name in request.cookies), None)


def keep_session(request: web.Request, response: web.Response, value: str, expires_at: datetime | None) -> None:
    """Have the browser keep the cookie, for this API alone: no script reads it, no other site's page has it sent."""
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
    """Have the browser forget the cookie."""
    name, path = _place(request)
    response.del_cookie(name, path=path, secure=is_secure(request), httponly=True, samesite="Strict")


@web.middleware
async def refuse_cross_site(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what a browser sends on behalf of any page but the API's own, unless it only reads, or shows a key.

    Such a page may send a body without a content type anywhere, unasked, and the cookie or the address of whoever
    looks at it would let it in.
    """
    if request.method not in _READS and bearer(request) is None and not _is_own(request):
        raise Refused(CROSS_SITE, "The page of another site has sent this request: only the dashboard's own may.")
    return await handler(request)


def _is_own(request: web.Request) -> bool:
    """Whether the browser says that its page is of this origin. What says nothing of the sort is no browser."""
    if (site := request.headers.get("Sec-Fetch-Site")) is not None:
        return site == "same-origin"
    if (origin := request.headers.get(hdrs.ORIGIN)) is not None:
        scheme, _, host = origin.partition("://")
        return host.lower() == request.host.lower() and (scheme == "https" or not is_secure(request))
    return session_cookie(request) is None


def _place(request: web.Request) -> tuple[str, str]:
    """The cookie's name and path: those of the application that is asked, which may be below another one."""
    path = request.rel_url.path.removesuffix(SESSION_PATH) or "/"
    if not is_secure(request):
        return _COOKIE, path
    return (f"__Host-{_COOKIE}" if path == "/" else f"__Secure-{_COOKIE}"), path
