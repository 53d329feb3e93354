"""Who asks, and what they may do."""

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
    """What somebody may do: in `scopes`, and if `queues` are given, with the jobs of those alone.

    `read` looks at everything; `enqueue` adds jobs; `operate` reads, and acts on jobs, queues and schedules that are
    there; `admin` does all. `by` is who it is, for the audit; `expires_at` until when it holds. `is_open`: nobody was
    asked.
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
        """Whether the jobs of this queue are there at all, for this one."""
        return self.queues is None or queue in self.queues


Authenticate: TypeAlias = Callable[[web.Request], Awaitable[Access | None]]
"""Tells who asks; None for nobody who may."""

EVERYTHING: Final = Access(scopes=frozenset(SCOPES), is_open=True)


async def nobody_is_asked(request: web.Request) -> Access | None:  # noqa: ARG001  # an `Authenticate`
    """Let everybody do everything: for an API that only its own programs reach, or what stands before it asks."""
    return EVERYTHING


AUTHENTICATE: web.AppKey[Authenticate] = web.AppKey("authenticate")
