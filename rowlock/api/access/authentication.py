"""Authenticate a request by API key (`rowlock keys create`), or by the cookie of a session begun with one."""

from __future__ import annotations

import math
import re
from ipaddress import ip_address
from typing import Final, NoReturn

from aiohttp import hdrs, web

from rowlock.api.access.access import EVERYTHING, Access, Authenticate
from rowlock.api.access.failures import FAILURES
from rowlock.api.app_keys import ROWLOCK
from rowlock.api.http.browsers import address, bearer, session_cookie
from rowlock.api.http.problems import FORBIDDEN, TOO_MANY_FAILURES, UNAUTHENTICATED, Refused
from rowlock.queue.operate.keys import Holder
from rowlock.words import quoted

_OF_A_PROXY: Final = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-IP", "Via")
_HOST: Final = re.compile(r"(?:(?P<host>[A-Za-z0-9.-]+)|\[(?P<address>[0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")


async def keys_are_demanded(request: web.Request) -> Access | None:
    """Authenticate by a valid key, or by a session begun with one; the key determines the access."""
    keys = request.app[ROWLOCK].keys
    if (text := bearer(request)) is not None:
        if (holder := await keys.holder(text)) is None:
            refuse_key(request, "bearer")
        return access_of(holder)
    cookie = session_cookie(request)
    session = None if cookie is None else await keys.session(cookie)
    return None if session is None else access_of(session)


class OpenUntilFirstKey:
    """Allow everybody on this machine everything until a key exists; from then on require keys, permanently.

    For an API that listens on loopback only. Until the first key, it refuses pages of other sites whose name resolves
    to this machine (DNS rebinding), and requests through a proxy.
    """

    def __init__(self) -> None:
        self._is_over = False

    async def __call__(self, request: web.Request) -> Access | None:
        """Authenticate the request."""
        if not self._is_over:
            self._is_over = await request.app[ROWLOCK].keys.had_any()
        if self._is_over:
            return await keys_are_demanded(request)
        if any(name in request.headers for name in _OF_A_PROXY):
            raise Refused(
                UNAUTHENTICATED, "The request came through a proxy, but no key exists. Create one: rowlock keys create."
            )
        if not is_loopback(_host(request)):
            detail = f"Without a key, the host must be localhost on this machine; got {quoted(request.host)}."
            raise Refused(FORBIDDEN, detail)
        return EVERYTHING


def takes_keys(authenticate: Authenticate) -> bool:
    """Whether this authentication accepts API keys."""
    return authenticate is keys_are_demanded or isinstance(authenticate, OpenUntilFirstKey)


def access_of(holder: Holder) -> Access:
    """The access that the key grants."""
    return Access(
        by=holder.name,
        scopes=frozenset(holder.scopes),
        queues=None if holder.queues is None else frozenset(holder.queues),
        expires_at=holder.expires_at,
    )


def refuse_key(request: web.Request, way: str) -> NoReturn:
    """Count a wrong key, and refuse it. Wrong keys never cause a valid key to be refused."""
    if wait := request.app[FAILURES].add(address(request), way):
        refuse_for(wait)
    raise Refused(UNAUTHENTICATED, "The key is not valid: it does not exist, was revoked, or has expired.")


def refuse_for(seconds: float) -> NoReturn:
    """Refuse the request for so many seconds. Raises `Refused`."""
    detail = f"Too many wrong keys came from this address: retry in {seconds:.0f} s."
    raise Refused(TOO_MANY_FAILURES, detail, retry_after=math.ceil(seconds))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach this address. Any name but localhost may resolve to any address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host(request: web.Request) -> str:
    """The request's host, without the port; empty if the header is malformed, or sent more than once."""
    given = request.headers.getall(hdrs.HOST, [])
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return "" if found is None else found["host"] or found["address"]
