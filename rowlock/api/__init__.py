"""The queue over HTTP: `create_app(rowlock)` makes an aiohttp application, to serve alone or below another one."""

from rowlock.api.application import create_app

__all__ = ["create_app"]
