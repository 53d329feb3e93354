"""The queue over HTTP: `create_app(rowlock)` makes an aiohttp application, to serve alone or below another one.

aiohttp is loaded when the application is made: the command line speaks the same JSON (`wire`) without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rowlock.api.application import create_app

__all__ = ["create_app"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # a module's
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rowlock.api.application import create_app  # noqa: PLC0415  # as said above

    return create_app
