"""`/v1/session`: log in to the dashboard with a key, show the session, and log out."""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec
from aiohttp import web

from rowlock.api.access.access import AUTHENTICATE, Access
from rowlock.api.access.authentication import access_of, refuse_for, refuse_key, takes_keys
from rowlock.api.access.failures import FAILURES
from rowlock.api.http.browsers import SESSION_PATH, address, forget_session, keep_session, session_cookie
from rowlock.api.http.exchange import answer
from rowlock.api.http.problems import NO_LOGIN, TOO_MANY_FAILURES, UNAUTHENTICATED, Refused
from rowlock.api.routing.routes import Call, Routes, whoever_asks
from rowlock.queue.jobs.fields import Moment
from rowlock.queue.operate.keys import SCOPES, Scope

routes = Routes("session")


class LogInRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/session`."""

    EXAMPLE: ClassVar = {"key": "rowlock_…"}

    key: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """The client and its access. `queues`: limited to the jobs of these. `is_open`: no authentication is required."""

    by: str | None
    scopes: list[Scope]
    queues: list[str] | None
    expires_at: Moment | None
    is_open: bool

    @classmethod
    def of(cls, access: Access) -> Self:
        """Make the form from the access."""
        return cls(
            by=access.by,
            scopes=[scope for scope in SCOPES if scope in access.scopes],
            queues=None if access.queues is None else sorted(access.queues),
            expires_at=access.expires_at,
            is_open=access.is_open,
        )


@routes.get(SESSION_PATH, scope=None, answers={200: Session}, problems=(UNAUTHENTICATED, TOO_MANY_FAILURES))
async def show_session(call: Call) -> web.Response:
    """Show the client of this key or session and its access: 401 if it must log in."""
    return answer(Session.of(await whoever_asks(call.request)))


@routes.post(SESSION_PATH, scope=None, answers={200: Session}, problems=(UNAUTHENTICATED, NO_LOGIN, TOO_MANY_FAILURES))
async def log_in(call: Call, body: LogInRequest) -> web.Response:
    """Log in with a key, for at most twelve hours: a cookie that scripts cannot read represents it from then on."""
    request, keys = call.request, call.rowlock.keys
    if not takes_keys(request.app[AUTHENTICATE]):
        raise Refused(NO_LOGIN, "The host application authenticates requests. Log in there.")
    if wait := request.app[FAILURES].wait_of(address(request)):
        refuse_for(wait)
    begun = await keys.log_in(body.key.strip())
    if begun is None:
        refuse_key(request, "session")
    if (former := session_cookie(request)) is not None:
        await keys.log_out(former)
    cookie, holder = begun
    response = answer(Session.of(access_of(holder)))
    keep_session(request, response, cookie, holder.expires_at)
    return response


@routes.delete(SESSION_PATH, scope=None, answers={204: None})
async def log_out(call: Call) -> web.Response:
    """Log out: 204, also without a session."""
    cookie = session_cookie(call.request)
    if cookie is not None:
        await call.rowlock.keys.log_out(cookie)
    response = web.Response(status=204)
    forget_session(call.request, response)
    return response
