"""What the handlers find in the aiohttp application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from rowlock.app import Rowlock

ROWLOCK: web.AppKey[Rowlock] = web.AppKey("rowlock")
"""The application whose queue is served."""
CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing")
"""Set when the server begins to stop: a request that waits for a job then answers at once."""
