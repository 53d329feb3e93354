"""What an authenticated client may do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from aiohttp import web

from rowlock.queue.operate.keys import SCOPES, Scope

_ALSO: Final[dict[Scope, frozenset[Scope]]] = {
    "read": frozenset({"read"}),
    "enqueue": frozenset({"enqueue"}),
    "operate": frozenset({"operate", "read"}),
    "admin": frozenset(SCOPES),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """The rights of a client: its `scopes`, limited to the jobs of `queues` if these are given.

    `read` reads everything; `enqueue` adds jobs; `operate` reads, and acts on existing jobs, queues and schedules;
    `admin` does all. `by` names the client in the audit; `expires_at` is when the access ends. `is_open`: access
    without authentication.
    """

    scopes: frozenset[Scope]
    queues: frozenset[str] | None = None
    by: str | None = None
    expires_at: datetime | None = None
    is_open: bool = False

    def allows(self, scope: Scope) -> bool:
        """Whether one of the scopes is this one, or includes it."""
        return any(scope in _ALSO[given] for given in self.scopes)

    def sees(self, queue: str) -> bool:
        """Whether the client may see the jobs of this queue."""
        return self.queues is None or queue in self.queues


Authenticate: TypeAlias = Callable[[web.Request], Awaitable[Access | None]]
"""Authenticates a request; returns None to refuse it."""

EVERYTHING: Final = Access(scopes=frozenset(SCOPES), is_open=True)


async def nobody_is_asked(request: web.Request) -> Access | None:  # noqa: ARG001  # an `Authenticate`
    """Allow everybody everything: for an API that only your own programs reach, or behind authentication."""
    return EVERYTHING


AUTHENTICATE: web.AppKey[Authenticate] = web.AppKey("authenticate")
