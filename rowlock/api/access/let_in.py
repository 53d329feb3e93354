"""Accept recently accepted keys while the database, which stores them, is away: for requests that work without it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from aiohttp import web

from rowlock.api.http.browsers import bearer
from rowlock.errors import DatabaseUnavailable
from rowlock.queue.connect.server_errors import CONNECTION_LOST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rowlock.api.access.access import Access

WITHIN: Final = 2.0
"""Seconds that authentication may wait for the database."""
REMEMBERED_SECONDS: Final = 3600.0
MOST: Final = 10
"""The most keys remembered: the last ones, by hash."""


class LetIn:
    """The recently accepted keys, in the memory of this process."""

    def __init__(self) -> None:
        self._known: dict[bytes, tuple[Access, float]] = {}

    async def admit(self, request: web.Request, ask: Callable[[web.Request], Awaitable[Access]]) -> Access:
        """Authenticate by `ask`; while the database does not answer, accept a key that was accepted within the hour.

        A key that was refused since is not accepted. Raises what `ask` raises.
        """
        shown = _hash(request)
        if shown is None:
            return await ask(request)
        try:
            async with asyncio.timeout(WITHIN):
                access = await ask(request)
        except (DatabaseUnavailable, *CONNECTION_LOST):
            known, until = self._known.get(shown, (None, 0.0))
            if known is None or time.monotonic() > until or _is_over(known):
                raise
            return known
        self._known.pop(shown, None)
        self._known[shown] = access, time.monotonic() + REMEMBERED_SECONDS
        if len(self._known) > MOST:
            del self._known[next(iter(self._known))]
        return access

    def forget(self, request: web.Request) -> None:
        """Forget the key of a request that was refused."""
        if (shown := _hash(request)) is not None:
            self._known.pop(shown, None)


def _hash(request: web.Request) -> bytes | None:
    key = bearer(request)
    return None if key is None else hashlib.sha256(key.encode()).digest()


def _is_over(access: Access) -> bool:
    return access.expires_at is not None and access.expires_at <= datetime.now(UTC)


LET_IN: web.AppKey[LetIn] = web.AppKey("let_in")
