"""Share readings between requests: fifty open dashboards cost the database as much as one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar

from aiohttp import web

T = TypeVar("T")

FRESH_SECONDS: Final = 2.0
"""Seconds for which a reading is shared; a slow reading is shared for a hundred times its duration."""
SHARE: Final = 100
SLOW_SECONDS: Final = 0.05
STALE_SECONDS: Final = 60.0
"""No older reading is returned. One that took longer than `SLOW_SECONDS` is returned until then, during its refresh."""
MOST: Final = 100


class _Reading:
    """The last reading under one key, and the one in progress."""

    def __init__(self) -> None:
        self.under_way: asyncio.Task[Any] | None = None
        self._value: Any = None
        self._took = 0.0
        self._read_at: float | None = None

    async def get(self, read: Callable[[], Awaitable[Any]], most_age: float) -> Any:  # noqa: ANN401  # whatever is read
        loop = asyncio.get_running_loop()
        age = float("inf") if self._read_at is None else loop.time() - self._read_at
        if age <= min(max(FRESH_SECONDS, SHARE * self._took), most_age):
            return self._value
        if self.under_way is None:
            self.under_way = asyncio.create_task(self._read(read))
            self.under_way.add_done_callback(_look_at)
        if self._took > SLOW_SECONDS and age <= most_age:
            return self._value
        return await asyncio.shield(self.under_way)

    async def _read(self, read: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401  # whatever is read
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            self._value = await read()
            self._read_at = loop.time()
            self._took = self._read_at - began
        finally:
            self.under_way = None
        return self._value


class Readings:
    """The last readings of one process. Each runs at most once at a time; an act clears them."""

    def __init__(self) -> None:
        self._readings: dict[Hashable, _Reading] = {}

    async def get(self, key: Hashable, read: Callable[[], Awaitable[T]], *, most_age: float | None = None) -> T:
        """Return a recent reading under this key, at most `most_age` seconds old, or read now.

        Never older than `STALE_SECONDS`, whatever `most_age` allows. Raises what `read` raises.
        """
        if most_age is not None and most_age <= 0:
            return await read()
        most_age = STALE_SECONDS if most_age is None else min(most_age, STALE_SECONDS)
        reading = self._readings[key] = self._readings.pop(key) if key in self._readings else _Reading()
        if len(self._readings) > MOST:
            del self._readings[next(iter(self._readings))]
        value: T = await reading.get(read, most_age)
        return value

    def forget(self) -> None:
        """Drop all readings after a change, so that its author sees it."""
        self._readings.clear()

    async def close(self, _app: object) -> None:
        """Cancel readings in progress, once no request waits for them."""
        under_way = [reading.under_way for reading in self._readings.values() if reading.under_way is not None]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _look_at(task: asyncio.Task[Any]) -> None:
    """Retrieve the exception of an abandoned reading, so that asyncio does not log it; the next reading repeats it."""
    if not task.cancelled():
        task.exception()


READINGS: web.AppKey[Readings] = web.AppKey("readings")
