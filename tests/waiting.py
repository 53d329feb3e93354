"""Waiting in tests: for a condition, with a deadline; never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

T = TypeVar("T")

_PAUSE = 0.01


@overload
async def eventually(condition: Callable[[], Awaitable[T | None]], timeout: float = ...) -> T: ...
@overload
async def eventually(condition: Callable[[], T | None], timeout: float = ...) -> T: ...
async def eventually(condition: Callable[[], Any], timeout: float = 10.0) -> Any:
    """Return the condition's first true value; fail after `timeout` seconds with its last one."""
    deadline = time.monotonic() + timeout
    while True:
        asked = condition()
        value = await asked if inspect.isawaitable(asked) else asked
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Still {value!r} after {timeout} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(_PAUSE)
