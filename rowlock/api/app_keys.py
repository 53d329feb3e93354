"""The keys under which handlers find shared objects in the aiohttp application."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    import asyncio

    from rowlock.app import Rowlock

ROWLOCK: web.AppKey[Rowlock] = web.AppKey("rowlock")
"""The application whose queue the API serves."""
CLOSING: web.AppKey[asyncio.Event] = web.AppKey("closing")
"""Set when the server begins to stop: requests that wait for a job then answer at once."""
