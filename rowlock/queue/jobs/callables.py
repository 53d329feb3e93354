"""Inspect an application's functions: whether to await a call, and whether a call runs the body."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from rowlock.errors import InvalidOption, InvalidResult

if TYPE_CHECKING:
    from collections.abc import Callable


def is_async(function: object) -> bool:
    """Whether a call returns a coroutine: an `async def`, a partial of one, an object with an async `__call__`.

    A plain wrapper around an `async def` is not async: it may run the coroutine itself, or return it.
    """
    return _is(inspect.iscoroutinefunction, function)


def refuse_generator(option: str, function: object) -> None:
    """Raise `InvalidOption` for a generator function: a call would return without running its body."""
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        name = getattr(function, "__qualname__", repr(function))
        raise InvalidOption(
            f"{option} must be a function that returns; got the generator {name}. Replace its `yield` by a `return`."
        )


def refuse_unfinished(value: object) -> None:
    """Raise `InvalidResult` for a coroutine or a generator: the body behind it has not run."""
    if inspect.isawaitable(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        if inspect.iscoroutine(value):
            value.close()
        raise InvalidResult(
            f"The result must be data; got `{type(value).__name__}`, whose body has not run. "
            "Await or exhaust it in the handler."
        )


def _is(kind: Callable[[Any], bool], function: object) -> bool:
    if kind(function):
        return True
    if inspect.isroutine(function) or isinstance(function, type):
        return False
    return kind(getattr(type(function), "__call__", None))  # noqa: B004  # inspects the method, not only its presence


__all__ = ["is_async", "refuse_generator", "refuse_unfinished"]
