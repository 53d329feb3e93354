"""The queue over HTTP: `create_app(rowlock)` makes an aiohttp application, to serve alone or below another one.

Every request must show a key; `nobody_is_asked` and `Access` replace that authentication. aiohttp is loaded on first
use of one of these names: the command line speaks the same JSON (`wire`) without it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rowlock.api.access.access import Access, nobody_is_asked
    from rowlock.api.application import create_app

__all__ = ["Access", "create_app", "nobody_is_asked"]

_PLACES: Final = {"Access": "access.access", "create_app": "application", "nobody_is_asked": "access.access"}


def __getattr__(name: str) -> Any:  # noqa: ANN401  # a module's
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
