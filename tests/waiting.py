"""Waiting in tests: for a condition, with a deadline; never for a time."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_PAUSE = 0.01


async def eventually(condition: Callable[[], T | Awaitable[T]], timeout: float = 10.0) -> T:
    """Return the condition's first true value; fail after `timeout` seconds with its last one."""
    deadline = time.monotonic() + timeout
    while True:
        asked = condition()
        value: T = await asked if inspect.isawaitable(asked) else asked
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"Still {value!r} after {timeout} s: {inspect.getsource(condition).strip()}")
        await asyncio.sleep(_PAUSE)
