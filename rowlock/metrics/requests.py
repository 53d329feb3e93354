"""Counts of HTTP requests."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from http import HTTPMethod
from typing import Final

BOUNDS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
"""The upper bounds of the histogram's buckets, in seconds; one more bucket counts slower requests."""

_METHODS: Final = frozenset(HTTPMethod)


class RequestCounts:
    """The requests to one route by one method."""

    __slots__ = ("durations", "seconds", "statuses")

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.durations = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0


class Requests:
    """The requests of one process, by method and route: at most as many pairs as the application has routes."""

    bounds = BOUNDS

    def __init__(self) -> None:
        self.kinds: dict[tuple[str, str], RequestCounts] = {}

    def note(self, method: str, route: str, status: int, took: float) -> None:
        """Count one."""
        method = method if method in _METHODS else "other"
        kind = self.kinds.get((method, route))
        if kind is None:
            kind = self.kinds[method, route] = RequestCounts()
        kind.statuses[f"{status // 100}xx"] += 1
        kind.durations[bisect_left(BOUNDS, took)] += 1
        kind.seconds += took
