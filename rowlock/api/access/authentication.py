"""Who asks: whoever shows a key (`rowlock keys create`), or the cookie of a session that was begun with one."""

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
    """Let in whoever shows a key that holds, or logged in with one; it says what they may do."""
    keys = request.app[ROWLOCK].keys
    if (text := bearer(request)) is not None:
        if (holder := await keys.holder(text)) is None:
            refuse_key(request, "bearer")
        return access_of(holder)
    cookie = session_cookie(request)
    session = None if cookie is None else await keys.session(cookie)
    return None if session is None else access_of(session)


class OpenUntilFirstKey:
    """Lets everybody on this machine do everything until a key is made, and from then on demands keys, for good.

    For an API that listens on loopback alone. Until then the page of another site must not reach it by a name of its
    own that leads to this machine (DNS rebinding), nor anybody else through a proxy.
    """

    def __init__(self) -> None:
        self._is_over = False

    async def __call__(self, request: web.Request) -> Access | None:
        """Tell who asks."""
        if not self._is_over:
            self._is_over = await request.app[ROWLOCK].keys.had_any()
        if self._is_over:
            return await keys_are_demanded(request)
        if any(name in request.headers for name in _OF_A_PROXY):
            raise Refused(
                UNAUTHENTICATED, "This came through a proxy, and there is no key yet: make one, rowlock keys create."
            )
        if not is_loopback(_host(request)):
            detail = f"Without a key this answers this machine alone, as localhost, and not as {quoted(request.host)}."
            raise Refused(FORBIDDEN, detail)
        return EVERYTHING


def takes_keys(authenticate: Authenticate) -> bool:
    """Whether one logs in here with a key."""
    return authenticate is keys_are_demanded or isinstance(authenticate, OpenUntilFirstKey)


def access_of(holder: Holder) -> Access:
    """What the key allows, to whoever has it."""
    return Access(
        by=holder.name,
        scopes=frozenset(holder.scopes),
        queues=None if holder.queues is None else frozenset(holder.queues),
        expires_at=holder.expires_at,
    )


def refuse_key(request: web.Request, way: str) -> NoReturn:
    """Count a wrong key, and say so. A key that holds is never refused on account of others."""
    if wait := request.app[FAILURES].add(address(request), way):
        refuse_for(wait)
    raise Refused(UNAUTHENTICATED, "There is no such key: it never was one, was revoked, or has expired.")


def refuse_for(seconds: float) -> NoReturn:
    """Say how long to wait."""
    detail = f"Too many wrong keys came from here: try again in {seconds:.0f} s."
    raise Refused(TOO_MANY_FAILURES, detail, retry_after=math.ceil(seconds))


def is_loopback(host: str) -> bool:
    """Whether this address can be reached from the same machine alone. Any name but localhost may mean anything."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _host(request: web.Request) -> str:
    """The host that is asked for, without the port; nothing if the header has more than these, or there are several."""
    given = request.headers.getall(hdrs.HOST, [])
    found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
    return "" if found is None else found["host"] or found["address"]
