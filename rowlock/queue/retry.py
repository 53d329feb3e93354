"""How long a job waits after an error before it is tried again: backoff policies as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypeGuard

from rowlock.errors import InvalidOption

_HOUR = timedelta(hours=1)
_LONGEST = timedelta(days=36_500)


@dataclass(frozen=True, slots=True, init=False)
class Exponential:
    """Wait `first` after the first error, `factor` times as long after each further one, and never longer than `limit`.

    Durations are `timedelta` or seconds. `limit` is one hour by default, or `first` if that is longer. `jitter` is the
    share of each delay that is left to chance, so that jobs which failed together do not come back together: it only
    shortens, so that `limit` holds; 0 is none, 1 is any delay between nothing and the full one. Raises `InvalidOption`.

    ```python
    Exponential(
        first=10, factor=3, limit=timedelta(minutes=30)
    )  # 10 s, 30 s, 90 s, 270 s, 810 s, then every 30 minutes
    ```
    """

    first: timedelta
    factor: float
    limit: timedelta
    jitter: float

    def __init__(
        self,
        *,
        first: timedelta | float = timedelta(seconds=2),
        factor: float = 2.0,
        limit: timedelta | float | None = None,
        jitter: float = 0.1,
    ) -> None:
        start = _duration("first", first)
        longest = max(_HOUR, start) if limit is None else _duration("limit", limit)
        if longest < start:
            raise InvalidOption(f"limit={limit!r} is below first={first!r}: raise the limit or lower the first delay")
        if not _is_number(factor) or not 1 <= factor <= 1000:
            raise InvalidOption(f"factor={factor!r} makes no sense: pass 1 (always the same delay) to 1000")
        if not _is_number(jitter) or not 0 <= jitter <= 1:
            raise InvalidOption(f"jitter={jitter!r} makes no sense: pass a share from 0 (none) to 1 (the whole delay)")
        values = {"first": start, "factor": float(factor), "limit": longest, "jitter": float(jitter)}
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def delay(self, errors: int, random: float) -> timedelta:
        """Return the wait after this many errors, counted from 1. `random` is the draw, at least 0 and below 1."""
        seconds, limit = self.first.total_seconds(), self.limit.total_seconds()
        if not seconds:
            return timedelta(0)
        try:
            seconds = min(seconds * self.factor ** max(errors - 1, 0), limit)
        except OverflowError:
            seconds = limit
        return timedelta(seconds=seconds * (1 - self.jitter * random))


Backoff: TypeAlias = Exponential
"""Every kind of backoff policy; other shapes join here."""


def parse_backoff(value: Backoff | timedelta | float) -> Backoff:
    """Return the policy that `@app.task(backoff=…)` means: itself, or an exponential one from its first delay.

    A number is seconds. Raises `InvalidOption` for anything else.
    """
    if isinstance(value, Exponential):
        return value
    try:
        return Exponential(first=value)
    except InvalidOption:
        raise InvalidOption(
            f"backoff={value!r} makes no sense: pass the first delay as seconds or timedelta, 0 or longer, "
            "or a policy such as Exponential(first=2)"
        ) from None


def _duration(name: str, value: timedelta | float) -> timedelta:
    duration = value if isinstance(value, timedelta) else None
    if _is_number(value):
        try:
            duration = timedelta(seconds=value)
        except (OverflowError, ValueError):  # NaN and Infinity too
            duration = None
    if duration is None or not timedelta(0) <= duration <= _LONGEST:
        raise InvalidOption(f"{name}={value!r} makes no sense: pass seconds or a timedelta, from 0 to 100 years")
    return duration


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
