"""The queue over HTTP: `create_app(rowlock)` makes an aiohttp application, to serve alone or below another one.

Whoever asks must show a key; to say in another way who may do what there are `nobody_is_asked` and `Access`. aiohttp is
loaded when one of them is used: the command line speaks the same JSON (`wire`) without it.
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
